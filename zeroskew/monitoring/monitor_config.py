"""The `monitoring` section of model.yaml, and the DriftMonitor that is made from it.

The words are those of the manifest, in snake_case. A model's folder need not know the pipeline that
retrains it: by default that is its training pipeline, from as long before the window's end as
`retrain_days` says, or with `action: RollBack` its rollback pipeline.
"""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field

from zeroskew.monitoring.monitor_spec import Watch, parse_monitor
from zeroskew.rollout.crd_schema import GROUP, VERSION
from zeroskew.rollout.names import check_namespace, label_value, rollout_name

KIND, PLURAL = "DriftMonitor", "driftmonitors"


class MonitoringSection(Watch):
    """How the model is watched, and what follows."""

    retrain_days: Annotated[int, Field(ge=1, le=3650)] = 90
    """Days up to the window's end that a retraining learns from."""


def monitor_manifest(
    section: MonitoringSection, model: str, *, namespace: str, name: str | None = None
) -> dict[str, Any]:
    """The DriftMonitor of a model. `name`: default, the model's.

    Raises `ConfigError` for names that a cluster would refuse.
    """
    monitor = rollout_name(name or model)
    said = section.model_dump(
        mode="json", by_alias=True, exclude_none=True, exclude={"retrain_days"}
    )
    trigger = said["trigger"]
    if trigger["policy"] != "Disabled" and "pipelineRef" not in trigger:
        back = trigger["action"] == "RollBack"
        kind = "rollback" if back else "training"
        trigger["pipelineRef"] = {"name": f"{model.replace('_', '-')}-{kind}"}
        retraining = [
            {"name": "start_time", "value": f"now-{section.retrain_days}d"},
            {"name": "end_time", "valueFrom": "windowEnd"},
            {"name": "decision", "valueFrom": "checksum"},
        ]
        going_back = [
            {"name": "to", "valueFrom": "previous"},
            {"name": "reason", "valueFrom": "message"},
        ]
        trigger["parameters"] = trigger["parameters"] or (going_back if back else retraining)
    spec = {"modelRef": {"name": model}, **said}
    parse_monitor(spec, where=f"DriftMonitor {monitor}")
    return {
        "apiVersion": f"{GROUP}/{VERSION}",
        "kind": KIND,
        "metadata": {
            "name": monitor,
            "namespace": check_namespace(namespace),
            "labels": {
                "app.kubernetes.io/part-of": "zeroskew",
                f"{GROUP}/model": label_value(model),
            },
        },
        "spec": spec,
    }
