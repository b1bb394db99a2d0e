"""Kubeflow Pipelines' run API, as far as a trigger uses it, failing in the ways that it is told to.

Shapes are those of backend/api/v2beta1's protos as JSON: snake case, RFC 3339, the year 1970 for
what has not happened, `code` and `message` in errors. A server for one user refuses a namespace in
lists.
"""

import itertools
import json
import threading
import time
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

NEVER = "1970-01-01T00:00:00Z"
ENDS = ("SUCCEEDED", "FAILED", "CANCELED", "SKIPPED")
PARAMETERS = {
    "start_time": {"parameterType": "STRING"},
    "end_time": {"parameterType": "STRING"},
    "trials": {"parameterType": "NUMBER_INTEGER", "isOptional": True},
}


class KfpStandIn:
    """`failures[prefix]`: what becomes of requests for runs whose names begin so, in order.

    `cut`: made, and the connection ends without an answer. `twice`: made twice. `refuse`: 400.
    `error`: 503, not made. `lost`: 503, but made. `slow`: made after `slow_seconds`. When the list
    is empty, all is well.
    """

    def __init__(self, port: int = 0, pipelines=(), slow_seconds: float = 20.0) -> None:
        self.slow_seconds = slow_seconds
        self.pipelines = {f"p-{name}": name for name in pipelines}
        self.experiments = {"e-default": "Default", "e-nightly": "nightly"}
        self.runs: dict[str, dict] = {}
        self.failures: dict[str, list[str]] = {}
        self.requests: list[tuple[str, str]] = []
        self.token: str | None = None
        self._numbers = itertools.count(1)
        self._lock = threading.RLock()
        self._port = port
        self._server = None

    def __enter__(self):
        self.up()
        return self

    def __exit__(self, *_):
        self.down()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._port}"

    def up(self) -> None:
        stand_in = self

        class Handler(_Handler):
            kfp = stand_in

        ThreadingHTTPServer.allow_reuse_address = True
        self._server = ThreadingHTTPServer(("127.0.0.1", self._port), Handler)
        self._port = self._server.server_address[1]
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def down(self) -> None:
        """Nobody listens any more; what was made stays."""
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()
            self._server = None

    def named(self, prefix: str, *, alive: bool = False) -> list[dict]:
        """Runs by the beginning of their names, the oldest first; `alive`: not cancelled."""
        with self._lock:
            found = [run for run in self.runs.values() if run["display_name"].startswith(prefix)]
        return [run for run in found if not alive or run["state"] != "CANCELED"]

    def end(self, run_id: str, state: str, message: str = "") -> None:
        with self._lock:
            run = self.runs[run_id]
            run["state"], run["finished_at"] = state, _now()
            if message:
                run["error"] = {"code": 13, "message": message}

    def create(self, asked: dict) -> dict:
        with self._lock:
            number = next(self._numbers)
            run = asked | {
                "run_id": f"00000000-0000-4000-8000-{number:012d}", "created_at": _now(),
                "finished_at": NEVER, "scheduled_at": _now(), "state": "RUNNING",
                "storage_state": "AVAILABLE",
                "experiment_id": asked.get("experiment_id", "e-default"),
            }  # fmt: skip
            self.runs[run["run_id"]] = run
            return run

    def fate(self, name: str) -> str:
        with self._lock:
            for prefix, left in self.failures.items():
                if name.startswith(prefix) and left:
                    return left.pop(0)
        return "good"


class _Handler(BaseHTTPRequestHandler):
    kfp: KfpStandIn
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def answer(self, status: int, body: dict) -> None:
        content = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def refuse(self, status: int, code: int, message: str) -> None:
        self.answer(status, {"error": message, "code": code, "message": message, "details": []})

    def known(self) -> list[str] | None:
        parts = urlsplit(self.path)
        self.query = {name: values[0] for name, values in parse_qs(parts.query).items()}
        self.kfp.requests.append((self.command, parts.path))
        token = self.kfp.token
        if token is not None and self.headers.get("Authorization") != f"Bearer {token}":
            self.refuse(401, 16, "Request header error: there is no valid token")
            return None
        if not parts.path.startswith("/apis/v2beta1/"):
            self.refuse(404, 5, "Not Found")
            return None
        return parts.path.removeprefix("/apis/v2beta1/").split("/")

    def do_GET(self):
        match self.known():
            case ["runs"]:
                runs = list(self.kfp.runs.values())
                self.listed("runs", runs)
            case ["runs", run_id] if run_id in self.kfp.runs:
                self.answer(200, self.kfp.runs[run_id])
            case ["pipelines"]:
                self.listed("pipelines", [
                    {"pipeline_id": key, "display_name": name, "name": name}
                    for key, name in self.kfp.pipelines.items()
                ])  # fmt: skip
            case ["experiments"]:
                self.listed("experiments", [
                    {"experiment_id": key, "display_name": name}
                    for key, name in self.kfp.experiments.items()
                ])  # fmt: skip
            case ["pipelines", key, "versions"] if key in self.kfp.pipelines:
                assert self.query.get("sort_by") in (None, "created_at desc")
                self.listed("pipeline_versions", [
                    {"pipeline_id": key, "pipeline_version_id": f"{key}-v{number}",
                     "display_name": f"v{number}",
                     "pipeline_spec": {"pipeline_spec": {
                         "root": {"inputDefinitions": {"parameters": PARAMETERS}}}}}
                    for number in (2, 1)
                ])  # fmt: skip
            case None:
                pass
            case _:
                self.refuse(404, 5, "ResourceNotFoundError: not found")

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers.get("Content-Length", 0))) or b"{}")
        match self.known():
            case ["runs"]:
                self.create(body)
            case ["runs", last] if last.endswith(":terminate"):
                run = self.kfp.runs.get(last.removesuffix(":terminate"))
                if run is None or run["state"] in ENDS:
                    self.refuse(400, 9, "Failed to terminate: the run has finished")
                else:
                    self.kfp.end(run["run_id"], "CANCELED")
                    self.answer(200, {})
            case None:
                pass
            case _:
                self.refuse(404, 5, "Not Found")

    def create(self, asked: dict) -> None:
        wrong = self.wrong(asked)
        if wrong:
            self.refuse(400, 3, f"InvalidInputError: {wrong}")
            return
        match self.kfp.fate(asked["display_name"]):
            case "good":
                self.answer(200, self.kfp.create(asked))
            case "cut":
                self.kfp.create(asked)
                self.close_connection = True
            case "twice":
                self.kfp.create(asked)
                self.answer(200, self.kfp.create(asked))
            case "refuse":
                self.refuse(400, 3, "InvalidInputError: the experiment is archived")
            case "error":
                self.refuse(503, 14, "upstream connect error")
            case "lost":
                self.kfp.create(asked)
                self.refuse(503, 14, "upstream connect error")
            case "slow":
                time.sleep(self.kfp.slow_seconds)
                made = self.kfp.create(asked)
                try:
                    self.answer(200, made)
                except OSError:
                    self.close_connection = True

    def wrong(self, asked: dict) -> str:
        reference = asked.get("pipeline_version_reference") or {}
        if not asked.get("display_name"):
            return "the run name is empty"
        if reference.get("pipeline_id") not in self.kfp.pipelines:
            return "the pipeline is not found"
        if not str(reference.get("pipeline_version_id")).startswith(reference["pipeline_id"]):
            return "the version is not found"
        if asked.get("experiment_id", "e-default") not in self.kfp.experiments:
            return "the experiment is not found"
        given = asked.get("runtime_config", {}).get("parameters", {})
        kinds = {"STRING": str, "NUMBER_INTEGER": int}
        for name, value in given.items():
            if name not in PARAMETERS:
                return f"parameter {name} is not defined"
            if type(value) is not kinds[PARAMETERS[name]["parameterType"]]:
                return f"parameter {name} has the wrong type"
        return ""

    def listed(self, field: str, found: list[dict]) -> None:
        if "namespace" in self.query:
            self.refuse(400, 3, "In single-user mode, no list can be filtered by namespace")
            return
        for predicate in json.loads(self.query.get("filter", "{}")).get("predicates", ()):
            assert predicate["operation"] == "EQUALS"
            key, value = predicate["key"], predicate["string_value"]
            found = [each for each in found if each.get(key) == value]
        start, size = int(self.query.get("page_token", "0")), int(self.query["page_size"])
        page = {field: found[start : start + size], "total_size": len(found)}
        if start + size < len(found):
            page["next_page_token"] = str(start + size)
        self.answer(200, page if page[field] else {})


def _now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
