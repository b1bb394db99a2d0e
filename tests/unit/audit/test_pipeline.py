"""The audit's pipeline, compiled: fit for a schedule, and its report kept when its gate fails."""

from __future__ import annotations

from pathlib import Path

from pipelines.compile import Code, manifests
from pipelines.consistency_audit import consistency_audit_pipeline
from pipelines.pod import Images

MODEL = Path(__file__).parents[3] / "pipelines/flight_delay"


def test_a_schedule_needs_to_give_nothing():
    pipeline = consistency_audit_pipeline(MODEL, Images("registry.test/zeroskew:1f3a9c2"))
    documents = manifests(pipeline, Code("1f3a9c2", "ab"), model="flight_delay")
    assert documents[0]["metadata"]["name"] == "flight-delay-consistency-audit"
    spec = documents[1]["spec"]["pipelineSpec"]
    given = spec["root"]["inputDefinitions"]["parameters"]
    assert all("defaultValue" in each or each.get("isOptional") for each in given.values())
    # Relative moments: the same arguments for ever.
    assert (given["start_time"]["defaultValue"], given["end_time"]["defaultValue"]) == (
        "now-1d", "now",
    )  # fmt: skip
    tasks = spec["root"]["dag"]["tasks"]
    assert tasks["gate"]["dependentTasks"] == ["audit"]
    # A step tries again by itself; what the engine repeated besides would multiply.
    assert "retryPolicy" not in tasks["audit"]
    assert not tasks["audit"]["cachingOptions"].get("enableCache")
