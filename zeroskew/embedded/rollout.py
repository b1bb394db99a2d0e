"""A rollout on a laptop: the machine of the operator, with child processes for a cluster.

    with LocalRollout("flight_delay", section, folder) as rollout:
        rollout.want(2)
        rollout.run(until=lambda status: status.phase == "Succeeded")
        rollout.address                     # where users ask: "127.0.0.1:41233"

Every version is a Triton of its own, the gateway is Envoy, the registry is MLflow. What the machine
remembers is kept in `rollout.json`, so that a rollout that was broken off goes on.
"""

from __future__ import annotations

import json
import os
import shutil
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING

from zeroskew.embedded import valkey
from zeroskew.embedded.envoy import EmbeddedEnvoy
from zeroskew.embedded.serving import registered_repository
from zeroskew.embedded.triton import EmbeddedTriton
from zeroskew.endpoints import Endpoints
from zeroskew.errors import RegistryError, ZeroskewError
from zeroskew.rollout.machine import step
from zeroskew.rollout.rollout_actions import (
    Action,
    Analyse,
    ApplyRoute,
    EmitEvent,
    EnsureVersion,
    MoveAlias,
    RemoveVersion,
)
from zeroskew.rollout.rollout_config import RolloutSection
from zeroskew.rollout.rollout_observations import (
    AnalysisSeen,
    GatewaySeen,
    Observations,
    RegistrySeen,
    RouteSeen,
    VersionSeen,
)
from zeroskew.rollout.rollout_spec import RolloutSpec, parse_spec
from zeroskew.rollout.rollout_state import RolloutStatus, from_json, to_json

if TYPE_CHECKING:
    from zeroskew.registry import Registry

TURN_SECONDS = 0.2
_TEMPLATE = {"inferenceService": {"predictor": {}}, "servingRuntime": {"containers": [{}]}}
"""Nothing of it is used here, but a spec has one."""

Judge = Callable[[Analyse], AnalysisSeen]


def judge_by_log(log: str, threshold: float, pages: Path) -> Judge:
    """A judge that reads the prediction log, and leaves a page per analysis in `pages`.

    `threshold`: score from which on a decision is positive.
    """
    from zeroskew.rollout.analysis import Question, analyse, metrics_from_json
    from zeroskew.rollout.analysis_page import analysis_page

    def judge(asked: Analyse) -> AnalysisSeen:
        question = Question(
            log, asked.model, asked.champion, asked.challenger, asked.since, asked.until,
            asked.mode, threshold, asked.mirror_percent,
        )  # fmt: skip
        try:
            found = analyse(question, metrics_from_json(asked.metrics))
            pages.mkdir(parents=True, exist_ok=True)
            name = f"{asked.challenger}-{asked.until:%Y%m%dT%H%M%S}-{asked.mode}.html"
            analysis_page(question, found).save(pages / name)
        except (ZeroskewError, OSError) as error:
            return AnalysisSeen(asked.run, asked.since, asked.until, "Error", 0, str(error))
        return AnalysisSeen(
            asked.run,
            asked.since,
            asked.until,
            found.outcome,
            found.pairs,
            found.message,
            found.requests,
            found.copies,
        )

    return judge


class LocalRollout:
    """One model's rollout; the only one over `folder`."""

    def __init__(
        self,
        model: str,
        section: RolloutSection,
        folder: str | Path,
        *,
        judge: Judge,
        said: Callable[[EmitEvent], None] = lambda event: None,
        environment: dict[str, str] | None = None,
        port: int | None = None,
    ) -> None:
        """`judge` compares two versions by what was logged; it is called in a thread of its own.

        `said` is told what happens. `environment`: further variables of the servers. `port`: where
        users ask; None: a free one.
        """
        self.model, self._section = model, section
        self.folder = Path(folder).absolute()
        self._judge, self._said = judge, said
        self._environment = dict(environment or {})
        self.gateway = EmbeddedEnvoy(self.folder / "envoy", port=port)
        self._servers: dict[str, EmbeddedTriton] = {}
        self._starting: dict[str, Future[EmbeddedTriton]] = {}
        self._failed: dict[str, str] = {}
        self._analysing: dict[tuple[str, datetime], Future[AnalysisSeen]] = {}
        self._results: tuple[AnalysisSeen, ...] = ()
        self._threads = ThreadPoolExecutor(2, "rollout")
        self._spec: RolloutSpec | None = None
        self._generation = 0
        self._approval: str | None = None
        self.status = RolloutStatus()
        self.analyses: list[AnalysisSeen] = []
        """Every result so far."""

    @property
    def address(self) -> str:
        """Host and port of the gateway."""
        return self.gateway.address

    def server(self, version: int) -> EmbeddedTriton:
        """The Triton of a version that runs."""
        return self._servers[str(version)]

    def want(self, version: int) -> None:
        """From now on `version` is what the users shall get.

        Raises `ConfigError` if the section cannot be a rollout.
        """
        said = self._section.model_dump(mode="json", by_alias=True, exclude_none=True)
        said["service"]["gatewayRefs"] = [{"name": "laptop"}]
        spec = {
            "modelRef": {"name": self.model, "version": str(version)},
            "template": _TEMPLATE,
            **said,
        }
        self._spec = parse_spec(spec, where=f"rollout of {self.model}")
        self._generation += 1

    def approve(self, version: int) -> None:
        """What `kubectl annotate … zeroskew.dev/approve=<version>` is on a cluster."""
        self._approval = str(version)

    def run(self, until: Callable[[RolloutStatus], bool], *, seconds: float = 600.0) -> bool:
        """Turn until `until` says so; False if that takes longer than `seconds`."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            if until(self.turn()):
                return True
            time.sleep(TURN_SECONDS)
        return False

    def turn(self) -> RolloutStatus:
        """Look, decide and act once."""
        if self._spec is None:
            return self.status
        self.status, actions = step(self._spec, self.status, self._observe(), datetime.now(UTC))
        self._remember()
        for action in actions:
            self._act(action)
        return self.status

    def _observe(self) -> Observations:
        spec = self._spec
        assert spec is not None
        for version, future in list(self._starting.items()):
            if future.done():
                del self._starting[version]
                try:
                    self._servers[version] = future.result()
                except ZeroskewError as error:
                    self._failed[version] = str(error)
        for request, done in list(self._analysing.items()):
            if done.done():
                del self._analysing[request]
                self._results = (done.result(),)
                self.analyses.append(done.result())
        digest = spec.template_digest
        versions = {
            **{version: VersionSeen(exists=True, reason="starting", template=digest)
               for version in self._starting},
            **{version: VersionSeen(exists=True, reason=reason, template=digest)
               for version, reason in self._failed.items()},
            **{version: self._serving(server, digest) for version, server in self._servers.items()},
        }  # fmt: skip
        plan = self.gateway.plan
        route = RouteSeen()
        if plan is not None:
            route = RouteSeen(exists=True, plan=plan, accepted=True, resolved_refs=True)
        return Observations(
            generation=self._generation,
            versions=versions,
            route=route,
            registry=self._registry(spec),
            gateway=GatewaySeen(exists=True, mirrors=True),
            analyses=self._results,
            approval=self._approval,
        )

    def _serving(self, server: EmbeddedTriton, digest: str) -> VersionSeen:
        ready = server.ready()
        reason = "" if ready else "Triton does not answer"
        return VersionSeen(
            exists=True, ready=ready, available=ready, reason=reason, template=digest
        )

    def _registry(self, spec: RolloutSpec) -> RegistrySeen:
        registry = _registry()
        try:
            known = {each.version for each in registry.versions(self.model)}
            champion = registry.aliases(self.model).get("champion")
        except RegistryError as error:
            return RegistrySeen(message=str(error))
        return RegistrySeen(
            version_exists=int(spec.model_ref.version) in known,
            champion=None if champion is None else str(champion),
        )

    def _act(self, action: Action) -> None:
        if isinstance(action, EnsureVersion):
            version = action.version
            if version not in self._servers and version not in self._starting:
                self._starting[version] = self._threads.submit(self._start, version)
        elif isinstance(action, ApplyRoute):
            servers = {v: [_endpoint(s.http)] for v, s in self._servers.items()}
            self.gateway.apply(action.plan, servers)
        elif isinstance(action, Analyse):
            key = (action.run, action.until)
            if key not in self._analysing:
                self._analysing[key] = self._threads.submit(self._judge, action)
        elif isinstance(action, MoveAlias):
            expected = None if action.expected is None else int(action.expected)
            _registry().promote(
                action.model, int(action.version), "its rollout ended well",
                expected_champion=expected,
            )  # fmt: skip
        elif isinstance(action, RemoveVersion):
            self._failed.pop(action.version, None)
            server = self._servers.pop(action.version, None)
            if server is not None:
                server.stop()
        elif isinstance(action, EmitEvent):
            self._said(action)

    def _start(self, version: str) -> EmbeddedTriton:
        endpoints = Endpoints.from_environment()
        if not endpoints.redis:
            endpoints = replace(endpoints, redis=valkey.ensure(Path(endpoints.home) / "valkey"))
        folder = self.folder / f"version-{version}"
        shutil.rmtree(folder / "models", ignore_errors=True)
        registered_repository(self.model, int(version), folder / "models")
        variables = endpoints.environment() | {"ZEROSKEW_SPOOL": str(folder / "spool")}
        return EmbeddedTriton(
            folder / "models", folder, environment=variables | self._environment
        ).start()

    def _remember(self) -> None:
        path = self.folder / "rollout.json"
        text = json.dumps({"generation": self._generation, "status": to_json(self.status)})
        partial = path.with_suffix(".partial")
        partial.write_text(text)
        os.replace(partial, path)

    def __enter__(self) -> LocalRollout:
        self.folder.mkdir(parents=True, exist_ok=True)
        path = self.folder / "rollout.json"
        if path.exists():
            found = json.loads(path.read_text())
            self._generation = int(found["generation"])
            self.status = from_json(RolloutStatus, found["status"])
        self.gateway.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._threads.shutdown(wait=True, cancel_futures=True)
        for future in self._starting.values():
            if future.done() and not future.cancelled() and future.exception() is None:
                future.result().stop()
        self.gateway.stop()
        for server in self._servers.values():
            server.stop()


def _endpoint(address: str) -> tuple[str, int]:
    host, _, port = address.rpartition(":")
    return host, int(port)


_LOCAL = threading.local()


def _registry() -> Registry:
    """One client per thread: the first use of each costs some milliseconds."""
    from zeroskew.registry import Registry

    if not hasattr(_LOCAL, "registry"):
        _LOCAL.registry = Registry.from_environment()
    found: Registry = _LOCAL.registry
    return found
