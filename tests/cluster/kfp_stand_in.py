"""Kubeflow Pipelines' run API, as far as a trigger uses it, failing in the ways that it is told to.

Follows kubeflow/pipelines 2.17.0 (backend/src/apiserver) with pipelines as Kubernetes objects and
rows in MariaDB, in what was seen of the running server:

- One user: `namespace` is ignored. Several: runs and experiments need one, a list of pipelines
  without one shows all namespaces', a run needs its experiment's id.
- A run is PENDING, then without a state, then RUNNING; terminated, CANCELING at once and FAILED
  later, never CANCELED. Terminating one that is ending or has ended is refused with 400.
- `error` is never there, whatever failed. A failed run that somebody repeats is RUNNING again.
- An unknown pipeline, version or run is 404 for GET; a run of an unknown version is 500.
- A name or description of more than 255 characters, or any text with a character beyond the basic
  plane, is 500: after the Workflow was made, which goes on without a row until it is deleted.
- Filters are unescaped twice, and do not tell `a` from `A`. A Pipeline without a display name is
  not found by it, and shown with its name. A page token belongs to the filter it came with.
- Errors are `code`, `message` and `details`; what is empty is left out; the year 1970 is never.
"""

import base64
import itertools
import json
import threading
import time
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, unquote_plus, urlsplit

NEVER = "1970-01-01T00:00:00Z"
SHOWN = ("PENDING", None, "RUNNING")
"""What a new run is shown as, one after the other."""
ENDING = ("CANCELING", "CANCELING", "FAILED")
PARAMETERS = {
    "start_time": {"parameterType": "STRING"},
    "end_time": {"parameterType": "STRING"},
    "trials": {"parameterType": "NUMBER_INTEGER", "isOptional": True},
}
HOME = "kubeflow"
ORPHAN_SECONDS = 435.0
"""How long a Workflow without a row was seen to go on."""


class KfpStandIn:
    """`failures[prefix]`: what becomes of requests for runs whose names begin so, in order.

    `cut`: made, and the connection ends without an answer. `twice`: made twice. `refuse`: 400.
    `error`: 503, not made. `lost`: 503, but made. `slow`: made after `slow_seconds`. `ghost`: 500,
    the Workflow goes on and there is no row. When the list is empty, all is well.
    """

    def __init__(
        self, port: int = 0, pipelines=(), slow_seconds: float = 20.0, *, multi_user: bool = False
    ) -> None:
        self.slow_seconds, self.multi_user = slow_seconds, multi_user
        self.pipelines: dict[str, dict] = {}
        self.experiments: dict[str, dict] = {}
        for name in pipelines:
            self.add_pipeline(name)
        if not multi_user:
            self.add_experiment("Default", key="e-default")
            self.add_experiment("nightly")
        self.gone_versions: set[str] = set()
        self.runs: dict[str, dict] = {}
        self.workflows: dict[str, dict] = {}
        """By run id: what Argo would show."""
        self.terminated: set[str] = set()
        self.failures: dict[str, list[str]] = {}
        self.requests: list[tuple[str, str]] = []
        self.token: str | None = None
        self.forbidden: set[str] = set()
        """Namespaces in which the caller may do nothing."""
        self.shown: dict[str, list] = {}
        """By run id: the states that are yet to come."""
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

    def add_pipeline(self, name: str, namespace: str = HOME, display_name: str = "") -> str:
        """Its id; `display_name`: what its spec says, empty: nothing."""
        key = f"p-{name}" if namespace == HOME else f"p-{namespace}-{name}"
        self.pipelines[key] = {"name": name, "display_name": display_name, "namespace": namespace}
        return key

    def add_experiment(self, name: str, namespace: str = HOME, key: str = "") -> str:
        key = key or (f"e-{name}" if namespace == HOME else f"e-{namespace}-{name}")
        self.experiments[key] = {"display_name": name, "namespace": namespace}
        return key

    def named(self, prefix: str, *, alive: bool = False) -> list[dict]:
        """Runs by the beginning of their names, the oldest first; `alive`: not terminated."""
        with self._lock:
            found = [run for run in self.runs.values() if run["display_name"].startswith(prefix)]
        return [run for run in found if not alive or run["run_id"] not in self.terminated]

    def end(self, run_id: str, state: str, message: str = "") -> None:
        """`message`: what the Workflow's failed step says; the run says nothing."""
        with self._lock:
            run = self.runs[run_id]
            self.shown[run_id] = []
            run["state"], run["finished_at"] = state, _now()
            self._argo(run_id, state.capitalize(), message)

    def terminate(self, run_id: str) -> None:
        with self._lock:
            self.terminated.add(run_id)
            self.runs[run_id]["state"] = ENDING[0]
            self.shown[run_id] = list(ENDING[1:])

    def repeat(self, run_id: str) -> None:
        """KFP's own *retry*, which a person asks for."""
        with self._lock:
            run = self.runs[run_id]
            run["state"], run["finished_at"] = SHOWN[0], NEVER
            self.shown[run_id] = list(SHOWN[1:])
            self._argo(run_id, "Running", "")

    def create(self, asked: dict) -> dict:
        """The Workflow, then the row."""
        with self._lock:
            run = self.begin(asked)
            self.runs[run["run_id"]] = run
            return run

    def begin(self, asked: dict) -> dict:
        """The Workflow alone; what a row would be."""
        with self._lock:
            number = next(self._numbers)
            run_id = f"00000000-0000-4000-8000-{number:012d}"
            self.shown[run_id] = list(SHOWN[1:])
            experiment = asked.get("experiment_id", "e-default")
            where = self.experiments.get(experiment, {}).get("namespace", HOME)
            self.workflows[run_id] = {
                "apiVersion": "argoproj.io/v1alpha1", "kind": "Workflow",
                "metadata": {
                    "name": f"run-{number}", "namespace": where, "creationTimestamp": _now(),
                    "labels": {"pipeline/runid": run_id},
                    "annotations": {"pipelines.kubeflow.org/run_name": asked["display_name"]},
                },
                "status": {"phase": "Running", "nodes": {}},
            }  # fmt: skip
            return asked | {
                "run_id": run_id, "created_at": _now(),
                "finished_at": NEVER, "scheduled_at": _now(), "state": SHOWN[0],
                "storage_state": "AVAILABLE", "experiment_id": experiment,
            }  # fmt: skip

    def show(self, run: dict) -> dict:
        """What the API says of it now; the next time it may have gone on."""
        with self._lock:
            shown = {key: value for key, value in run.items() if value not in (None, "", {}, [])}
            left = self.shown.get(run["run_id"])
            if left:
                run["state"] = left.pop(0)
                if run["state"] == "FAILED":
                    run["finished_at"] = _now()
                    self._argo(run["run_id"], "Failed", "")
            return shown

    def delete_orphans(self, older_than: float = ORPHAN_SECONDS) -> None:
        """As the persistence agent has it done to Workflows without a row."""
        with self._lock:
            for run_id, workflow in list(self.workflows.items()):
                made = datetime.fromisoformat(workflow["metadata"]["creationTimestamp"])
                age = (datetime.now(UTC) - made).total_seconds()
                if run_id not in self.runs and age >= older_than:
                    del self.workflows[run_id]

    def fate(self, name: str) -> str:
        with self._lock:
            for prefix, left in self.failures.items():
                if name.startswith(prefix) and left:
                    return left.pop(0)
        return "good"

    def _argo(self, run_id: str, phase: str, message: str) -> None:
        status = self.workflows.get(run_id, {}).setdefault("status", {})
        status["phase"] = phase
        nodes = {"a": {"type": "Pod", "displayName": "train", "phase": phase, "message": message}}
        status["nodes"] = nodes if message else {}


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
        kind = "type.googleapis.com/google.rpc.Status"
        said = "Internal Server Error" if status == 500 else message
        details = [{"@type": kind, "code": code, "message": said}]
        self.answer(status, {"code": code, "message": message, "details": details})

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
        kfp = self.kfp
        match self.known():
            case ["runs"]:
                if self.may("runs"):
                    self.listed("runs", [run | {"name": run["display_name"]}
                                         for run in self.here(kfp.runs.values())])  # fmt: skip
            case ["runs", run_id] if run_id in kfp.runs:
                self.answer(200, kfp.show(kfp.runs[run_id]))
            case ["pipelines"]:
                if "namespace" not in self.query or self.may("pipelines"):
                    found = [{"pipeline_id": key, **each} for key, each in kfp.pipelines.items()]
                    self.listed("pipelines", self.here(found))
            case ["pipelines", key] if key in kfp.pipelines:
                self.answer(200, _shown({"pipeline_id": key, **kfp.pipelines[key]}))
            case ["experiments"]:
                if self.may("experiments"):
                    found = [{"experiment_id": key, "name": each["display_name"], **each}
                             for key, each in kfp.experiments.items()]  # fmt: skip
                    self.listed("experiments", self.here(found))
            case ["pipelines", key, "versions"] if key in kfp.pipelines:
                assert self.query.get("sort_by") in (None, "created_at desc")
                self.listed("pipeline_versions", self.versions(key))
            case ["pipelines", key, "versions", version] if any(
                each["pipeline_version_id"] == version for each in self.versions(key)
            ):
                self.answer(200, {"pipeline_id": key, "pipeline_version_id": version})
            case None:
                pass
            case _:
                self.refuse(404, 5, "ResourceNotFoundError: not found")

    def versions(self, key: str) -> list[dict]:
        """The newest first."""
        if key not in self.kfp.pipelines:
            return []
        return [
            {"pipeline_id": key, "pipeline_version_id": f"{key}-v{number}",
             "display_name": f"v{number}", "name": f"v{number}",
             "pipeline_spec": {"pipeline_spec": {
                 "root": {"inputDefinitions": {"parameters": PARAMETERS}}}}}
            for number in (2, 1)
            if f"{key}-v{number}" not in self.kfp.gone_versions
        ]  # fmt: skip

    def may(self, what: str) -> bool:
        """With several users, every list but the pipelines' needs a namespace."""
        if not self.kfp.multi_user:
            return True
        namespace = self.query.get("namespace", "")
        if not namespace:
            text = f"InvalidInputError: {what} cannot have an empty namespace in multi-user mode"
            self.refuse(400, 3, text)
        elif namespace in self.kfp.forbidden:
            self.refuse(403, 7, f"PermissionDenied: no access to namespace {namespace}")
        return bool(namespace) and namespace not in self.kfp.forbidden

    def here(self, found) -> list[dict]:
        """Those of the namespace that is asked for, which a server for one user does not hear."""
        namespace = self.query.get("namespace") if self.kfp.multi_user else None

        def where(each: dict) -> str:
            owner = self.kfp.experiments.get(each.get("experiment_id", ""), {})
            return each.get("namespace") or owner.get("namespace", HOME)

        return [each for each in found if namespace is None or where(each) == namespace]

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers.get("Content-Length", 0))) or b"{}")
        match self.known():
            case ["runs"]:
                self.create(body)
            case ["runs", last] if last.endswith(":terminate"):
                run = self.kfp.runs.get(run_id := last.removesuffix(":terminate"))
                if run is None:
                    self.refuse(404, 5, f"ResourceNotFoundError: Run {run_id} not found")
                elif run["state"] not in (*SHOWN, "PAUSED"):
                    text = f"InvalidInputError: Failed to terminate a run {run_id}. Row not found"
                    self.refuse(400, 3, text)
                else:
                    self.kfp.terminate(run_id)
                    self.answer(200, {})
            case None:
                pass
            case _:
                self.refuse(404, 5, "Not Found")

    def create(self, asked: dict) -> None:
        wrong = self.wrong(asked)
        if wrong:
            self.refuse(*wrong)
            return
        fate = self.kfp.fate(asked["display_name"])
        if problem := _not_kept(asked):
            self.kfp.begin(asked)
            self.refuse(500, 13, f"InternalServerError: Failed to store run to table: {problem}")
            return
        match fate:
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
            case "ghost":
                self.kfp.begin(asked)
                text = "InternalServerError: Failed to store run to table: invalid connection"
                self.refuse(500, 13, text)
            case "slow":
                time.sleep(self.kfp.slow_seconds)
                made = self.kfp.create(asked)
                try:
                    self.answer(200, made)
                except OSError:
                    self.close_connection = True

    def wrong(self, asked: dict) -> tuple[int, int, str] | None:
        reference = asked.get("pipeline_version_reference") or {}
        if not asked.get("display_name"):
            return 500, 13, "InternalServerError: Run name cannot be empty"
        if self.kfp.multi_user and not asked.get("experiment_id"):
            text = "InvalidInputError: Experiment id can not be empty in multi-user mode"
            return 400, 3, text
        if asked.get("experiment_id", "e-default") not in self.kfp.experiments:
            return 404, 5, "ResourceNotFoundError: Experiment not found"
        version = reference.get("pipeline_version_id")
        known = self.versions(str(reference.get("pipeline_id")))
        if version not in [each["pipeline_version_id"] for each in known]:
            text = "InternalServerError: Failed to create a run due to error fetching manifest: "
            return 500, 13, f"{text}PipelineVersion {version} not found"
        given = asked.get("runtime_config", {}).get("parameters", {})
        kinds = {"STRING": str, "NUMBER_INTEGER": int}
        for name, value in given.items():
            if name not in PARAMETERS:
                return 400, 3, f"InvalidInputError: parameter {name} is not defined"
            if type(value) is not kinds[PARAMETERS[name]["parameterType"]]:
                return 400, 3, f"InvalidInputError: parameter {name} has the wrong type"
        return None

    def listed(self, field: str, found: list[dict]) -> None:
        try:
            text = unquote_plus(self.query.get("filter", "{}"), errors="strict")
            predicates = json.loads(text).get("predicates", ())
            if "%" in _bad_escapes(self.query.get("filter", "")):
                raise ValueError
        except ValueError:
            self.refuse(400, 3, "InvalidInputError: failed to parse valid filter")
            return
        for predicate in predicates:
            assert predicate["operation"] == "EQUALS"
            key, value = predicate["key"], predicate["string_value"]
            found = [each for each in found if str(each.get(key, "")).lower() == value.lower()]
        asked = json.dumps([self.query.get("filter", ""), self.query.get("sort_by", "")])
        start, size = 0, min(int(self.query.get("page_size", "0")) or 20, 200)
        if token := self.query.get("page_token"):
            start, before = json.loads(base64.b64decode(token))
            if before != asked and (self.query.get("filter") or self.query.get("sort_by")):
                self.refuse(400, 3, "InvalidInputError: page token does not match the filter")
                return
        shown = [_shown(each) for each in found[start : start + size]]
        if field == "runs":
            shown = [self.kfp.show(self.kfp.runs[each["run_id"]]) for each in shown]
        page = {field: shown, "total_size": len(found)}
        if start + size < len(found):
            page["next_page_token"] = base64.b64encode(
                json.dumps([start + size, asked]).encode()
            ).decode()
        self.answer(200, page if shown else {})


def _not_kept(asked: dict) -> str:
    """Why the database does not take the row."""
    for field in ("display_name", "description"):
        if len(asked.get(field, "")) > 255:
            return f"Error 1406: Data too long for column '{field}'"
    if any(ord(letter) > 0xFFFF for letter in json.dumps(asked, ensure_ascii=False)):
        return "Error 1366: Incorrect string value"
    return ""


def _bad_escapes(text: str) -> str:
    """What of the text is no escape but has its sign, which Go does not let pass."""
    parts = text.split("%")[1:]
    hexadecimal = set("0123456789abcdefABCDEF")
    return "".join("%" for part in parts if len(part) < 2 or not set(part[:2]) <= hexadecimal)


def _shown(each: dict) -> dict:
    """A Pipeline without a display name is shown with its name."""
    shown = each | {"display_name": each.get("display_name") or each.get("name", "")}
    return {key: value for key, value in shown.items() if value not in (None, "", {}, [])}


def _now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
