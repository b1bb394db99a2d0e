"""The demo's third part: new versions reach the users, or do not, while the users go on asking.

The gateway is a real Envoy, each version a real Triton, and the machine that decides is the one of
the operator on a cluster. First the challenger of the training pipeline goes through shadow and
canary; then a version that was broken on purpose (its scores are turned around after it was
evaluated, which no offline test would have seen) is found out in the shadow, and no user sees it.
"""

from __future__ import annotations

import json
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipelines.replay import replay, request_body
from zeroskew.endpoints import Endpoints

if TYPE_CHECKING:
    from zeroskew.embedded.rollout import LocalRollout

RATE = 80.0
STEPS: list[dict[str, Any]] = [
    {"set_mirror": {"percent": 100}},
    {"analysis": {"duration": "10s"}},
    {"set_mirror": {"percent": 0}},
    {"set_weight": 5},
    {"pause": {"duration": "3s"}},
    {"set_weight": 25},
    {"pause": {"duration": "3s"}},
    {"set_weight": 50},
    {"pause": {"duration": "3s"}},
]
"""Those of a day on a cluster, in half a minute."""


@dataclass
class Traffic:
    """What users got meanwhile."""

    requests: int = 0
    errors: list[str] = field(default_factory=list)
    latencies: list[float] = field(default_factory=list)


@dataclass(frozen=True)
class RolledOut:
    """How one version fared."""

    version: int
    phase: str
    message: str
    seconds: float
    traffic: Traffic
    told: tuple[tuple[float, str, str], ...]
    """Seconds since its start, reason, and text of each event."""
    page: str
    """Of its last analysis."""


def roll_out(
    model: str | Path,
    moment: datetime,
    challenger: int | None,
    champion: int,
    *,
    said: Callable[[str], None] = lambda text: None,
) -> list[RolledOut]:
    """Bring `challenger` to the users of `champion`, then try a broken one.

    `moment`: UTC, as of which the store was filled. `challenger` None: the training pipeline's gate
    held it back, so that it has no business here. `said` is told what happens.
    """
    from zeroskew.embedded.rollout import LocalRollout, judge_by_log
    from zeroskew.model_config import load_model_config
    from zeroskew.rollout.rollout_config import RolloutSection

    config = load_model_config(model)
    endpoints = Endpoints.from_environment()
    section = config.rollout.model_dump(mode="json", by_alias=False)
    section["strategy"] = {"steps": STEPS}
    section["analysis"]["interval"] = "10s"
    section["rollback"]["scale_down_delay_seconds"] = 5
    log = Path(endpoints.prediction_log) / f"rollout-{datetime.now():%Y%m%d-%H%M%S}"
    pages = Path(endpoints.home) / "analyses"
    told: list[tuple[float, str, str]] = []
    began = time.monotonic()

    def tell(event: Any) -> None:
        told.append((time.monotonic() - began, event.reason, event.message))
        said(f"{event.reason}: {event.message}")

    rollout = LocalRollout(
        config.name,
        RolloutSection.model_validate(section, by_alias=False, by_name=True),
        Path(endpoints.home) / "rollout" / config.name,
        judge=judge_by_log(str(log), config.evaluation.threshold, pages),
        said=tell,
        environment={"ZEROSKEW_PREDICTION_LOG": str(log), "ZEROSKEW_LOG_FLUSH_SECONDS": "1"},
    )
    done = []
    with rollout, tempfile.TemporaryDirectory() as scratch:
        rollout.want(champion)
        if not rollout.run(lambda status: status.phase == "Succeeded", seconds=120):
            raise RuntimeError(f"the champion does not serve: {rollout.status.message}")
        with _users(rollout, config.name, _questions(model, moment)) as traffic:
            broken = _broken(config.name, challenger or champion, Path(scratch))
            for version in (broken,) if challenger is None else (challenger, broken):
                told.clear()
                began = time.monotonic()
                before = replace(traffic, errors=[*traffic.errors])
                rollout.want(version)
                rollout.run(_settled(version), seconds=180)
                done.append(
                    RolledOut(
                        version=version,
                        phase=rollout.status.phase,
                        message=rollout.status.message,
                        seconds=time.monotonic() - began,
                        traffic=Traffic(
                            traffic.requests - before.requests,
                            traffic.errors[len(before.errors) :],
                            traffic.latencies[before.requests :],
                        ),
                        told=tuple(told),
                        page=_last_page(pages, version),
                    )
                )
    return done


def _settled(version: int) -> Callable[[Any], bool]:
    wanted = str(version)

    def settled(status: Any) -> bool:
        if status.phase == "Succeeded":
            return bool(status.stable == wanted)
        return status.rejected is not None and status.rejected.version == wanted

    return settled


def _last_page(pages: Path, version: int) -> str:
    found = sorted(pages.glob(f"{version}-*.html"))
    return str(found[-1]) if found else ""


def _questions(model: str | Path, moment: datetime) -> list[bytes]:
    import polars as pl

    from zeroskew.features.read_plan_compiler import compile_read_plan
    from zeroskew.features.repository import open_repository
    from zeroskew.model_config import load_model_config

    config = load_model_config(model)
    plan = compile_read_plan(open_repository(model), config.feature_service)
    asked = config.entity_rows.event_timestamp
    flights = (
        pl.scan_parquet(Path(Endpoints.from_environment().data) / config.entity_rows.path)
        .filter(pl.col(asked) >= moment, pl.col(asked) < moment + timedelta(hours=4))
        .sort(asked)
        .collect()
    )
    kinds = plan.entity_columns | plan.request_columns
    micros = round(moment.astimezone(UTC).timestamp() * 1e6)
    # Without an id of its own each request gets one from the gateway, and its copy the same.
    return [request_body(row, kinds, micros) for row in flights.iter_rows(named=True)]


@contextmanager
def _users(rollout: LocalRollout, model: str, bodies: list[bytes]) -> Iterator[Traffic]:
    """Requests to the gateway, all the time."""
    traffic, stop = Traffic(), threading.Event()

    def ask() -> None:
        while not stop.is_set():
            sent = replay(rollout.address, model, bodies, rate=RATE, seconds=1.0)
            traffic.requests += len(sent.latencies)
            traffic.errors += sent.errors
            traffic.latencies += sent.latencies

    thread = threading.Thread(target=ask, daemon=True)
    thread.start()
    try:
        yield traffic
    finally:
        stop.set()
        thread.join()


def _broken(model: str, version: int, scratch: Path) -> int:
    """Register the version again with its scores turned around: 1 - score."""
    import onnx
    from onnx import TensorProto, helper

    from zeroskew.export.atomic_files import sha256
    from zeroskew.registry import Registry

    registry = Registry.from_environment()
    folder = registry.download(model, version, scratch / "version")
    path = folder / "export" / "model.onnx"
    graph = onnx.load(path)
    for node in graph.graph.node:
        for at, output in enumerate(node.output):
            if output == "score":
                node.output[at] = "score_before"
    one = helper.make_tensor("one", TensorProto.FLOAT, [1], [1.0])
    graph.graph.initializer.append(one)
    graph.graph.node.append(helper.make_node("Sub", ["one", "score_before"], ["score"]))
    content = graph.SerializeToString()
    path.write_bytes(content)
    export = folder / "export" / "export.json"
    record = json.loads(export.read_text())
    record["onnx_sha256"]["model.onnx"] = sha256(content)
    export.write_text(json.dumps(record))
    known = registry.version(model, version).record
    hashes = {**known.onnx_sha256, "model.onnx": sha256(content)}
    reason = "broken on purpose: its scores are turned around"
    files = {
        each.name: each
        for each in folder.iterdir()
        if each.name not in ("files.json", "record.json")
    }
    return registry.register(
        model, replace(known, onnx_sha256=hashes, verdict_reason=reason), files
    )
