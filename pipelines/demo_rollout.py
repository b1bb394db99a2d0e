"""Versions brought to the users of the demo, and one that was broken on purpose.

The gateway is a real Envoy, each version a real Triton, and the machine that decides is the one of
the operator on a cluster. The broken version has its scores turned around after it was evaluated,
which no offline test would have seen; it is found out in the shadow, and no user sees it.
"""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipelines.demo_live import LiveFlights, Traffic, turns

if TYPE_CHECKING:
    from zeroskew.embedded.rollout import LocalRollout
    from zeroskew.endpoints import Endpoints
    from zeroskew.model_config import ModelConfig

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


class Rollouts:
    """One after the other, through one gateway, while users go on asking."""

    def __init__(
        self, config: ModelConfig, endpoints: Endpoints, log: str, said: Callable[[str], None]
    ) -> None:
        """`log`: the prediction log; `said` is told what happens."""
        from zeroskew.embedded.rollout import LocalRollout, judge_by_log
        from zeroskew.rollout.rollout_config import RolloutSection

        section = config.rollout.model_dump(mode="json", by_alias=False)
        section["strategy"] = {"steps": STEPS}
        section["analysis"]["interval"] = "10s"
        section["rollback"]["scale_down_delay_seconds"] = 5
        self._pages = Path(endpoints.home) / "analyses"
        self._said, self._began = said, time.monotonic()
        self._told: list[tuple[float, str, str]] = []
        self.rollout: LocalRollout = LocalRollout(
            config.name,
            RolloutSection.model_validate(section, by_alias=False, by_name=True),
            Path(endpoints.home) / "rollout" / config.name,
            judge=judge_by_log(log, config.evaluation.threshold, self._pages),
            said=self._tell,
            environment={"ZEROSKEW_PREDICTION_LOG": log, "ZEROSKEW_LOG_FLUSH_SECONDS": "1"},
        )

    def __enter__(self) -> Rollouts:
        self.rollout.__enter__()
        return self

    def __exit__(self, *error: Any) -> None:
        self.rollout.__exit__(*error)

    @property
    def address(self) -> str:
        """Where users ask."""
        return self.rollout.address

    def begin(self, champion: int) -> None:
        """The champion answers, before there is anybody to ask. Raises `RuntimeError` if not."""
        self.rollout.want(champion)
        if not self.rollout.run(lambda status: status.phase == "Succeeded", seconds=120):
            raise RuntimeError(f"the champion does not serve: {self.rollout.status.message}")

    def bring(
        self, version: int, flights: LiveFlights, beside: Callable[[], Any] = lambda: None
    ) -> RolledOut:
        """Bring a version to the users; `beside` is called all the while."""
        flights.rate, flights.share = RATE, 1.0
        self._told.clear()
        self._began = time.monotonic()
        before = flights.traffic.copy()
        self.rollout.want(version)
        wanted = str(version)

        def settled() -> bool:
            status = self.rollout.status
            if status.phase == "Succeeded":
                return bool(status.stable == wanted)
            return status.rejected is not None and status.rejected.version == wanted

        turns(self.rollout.turn, beside, until=settled, seconds=180)
        status = self.rollout.status
        return RolledOut(
            version=version,
            phase=status.phase,
            message=status.message,
            seconds=time.monotonic() - self._began,
            traffic=flights.traffic.since(before),
            told=tuple(self._told),
            page=self._last_page(version),
        )

    def _tell(self, event: Any) -> None:
        self._told.append((time.monotonic() - self._began, event.reason, event.message))
        self._said(f"{event.reason}: {event.message}")

    def _last_page(self, version: int) -> str:
        found = sorted(self._pages.glob(f"{version}-*.html"))
        return str(found[-1]) if found else ""


def register_broken(model: str, version: int) -> int:
    """Register the version again with its scores turned around: 1 - score."""
    with tempfile.TemporaryDirectory() as scratch:
        return _broken(model, version, Path(scratch))


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
