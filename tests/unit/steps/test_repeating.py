"""What a store's bad minute breaks is tried again, a mistake is not; libraries fail for real."""

import os
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from zeroskew import errors
from zeroskew.errors import (
    ConfigError,
    DataError,
    FeatureStoreError,
    OnlineStoreUnavailable,
    RegistryError,
)
from zeroskew.steps import repeating
from zeroskew.steps.repeating import ATTEMPTS, allowed_attempts, attempted, worth_repeating
from zeroskew.steps.step import step

CLOSED = "http://127.0.0.1:9"
"""Nobody listens on discard."""


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch):
    monkeypatch.setattr(repeating, "PAUSES", (0.0,))


class Failing:
    """Fails so many times, then works."""

    def __init__(self, *failures):
        self.failures, self.calls = list(failures), 0

    def __call__(self):
        self.calls += 1
        if self.failures:
            raise self.failures.pop(0)
        return "done"


def raised_from(error, cause, hidden=True):
    """As the library wraps what other libraries raise."""
    try:
        try:
            raise cause
        except type(cause) as found:
            raise error from (None if hidden else found)
    except type(error) as wrapped:
        return wrapped


def caught(function):
    try:
        function()
    except Exception as error:
        return error
    raise AssertionError("it did not fail")


@pytest.mark.parametrize("hidden", [True, False])
@pytest.mark.parametrize("kind", [RegistryError, FeatureStoreError, DataError])
def test_an_error_of_ours_is_judged_by_what_it_was_raised_from(kind, hidden):
    assert worth_repeating(raised_from(kind("no answer"), ConnectionResetError(), hidden))
    assert worth_repeating(raised_from(kind("no answer"), TimeoutError(), hidden))
    assert not worth_repeating(raised_from(kind("no file"), FileNotFoundError(), hidden))
    assert not worth_repeating(kind("is wrong"))


@pytest.mark.parametrize(
    "kind",
    [ConfigError, errors.SchemaError, errors.ValidationFailed, errors.GateFailed,
     errors.AliasConflict],
)  # fmt: skip
def test_a_mistake_is_never_repeated_whatever_led_to_it(kind):
    work = Failing(raised_from(kind("is wrong"), ConnectionError()))
    with pytest.raises(kind):
        attempted(work, attempts=5)
    assert work.calls == 1


@pytest.mark.parametrize("error", [ZeroDivisionError(), KeyError("x"), MemoryError(), OSError(28)])
def test_a_defect_and_a_full_disk_are_not_repeated(error):
    work = Failing(error)
    with pytest.raises(type(error)):
        attempted(work, attempts=5)
    assert work.calls == 1


def test_what_is_worth_it_is_repeated_as_often_as_allowed_and_each_attempt_is_logged(capsys):
    work = Failing(OnlineStoreUnavailable("is away\nfor now", where="redis"), ConnectionError())
    assert attempted(work, attempts=3) == "done"
    first, second = capsys.readouterr().err.splitlines()
    assert first.startswith("attempt 1 of 3 failed (OnlineStoreUnavailable: redis: is away)")
    assert second.startswith("attempt 2 of 3 failed (ConnectionError); the next one is in")
    work = Failing(*(ConnectionError() for _ in range(9)))
    with pytest.raises(ConnectionError):
        attempted(work, attempts=3)
    assert work.calls == 3


def test_pauses_grow(monkeypatch):
    slept = []
    monkeypatch.undo()
    monkeypatch.setattr(repeating.time, "sleep", slept.append)
    with pytest.raises(TimeoutError):
        attempted(Failing(*(TimeoutError() for _ in range(9))), attempts=6)
    wanted = (10, 30, 60, 120, 120)
    assert [round(a / b) for a, b in zip(slept, wanted, strict=True)] == [1] * 5


@pytest.mark.parametrize("text", ["0", "11", "many", "-1", "1.5", "²"])
def test_a_wrong_number_of_attempts_is_told(monkeypatch, text):
    monkeypatch.setenv(ATTEMPTS, text)
    with pytest.raises(ConfigError, match=ATTEMPTS):
        allowed_attempts()


def test_a_step_leaves_nothing_of_an_attempt_that_failed(tmp_path, monkeypatch):
    monkeypatch.setenv(ATTEMPTS, "3")
    seen, kept = [], tmp_path / "input"
    kept.write_text("rows")

    @step("table", "page")
    def work(source, table, page):
        seen.append((Path(table).exists(), Path(page).exists()))
        Path(table).mkdir()
        (Path(table) / "part-0").write_text("half")
        Path(page).write_text("half")
        if len(seen) < 3:
            raise ConnectionError
        return len(seen)

    assert work(kept, tmp_path / "table", str(tmp_path / "page")) == 3
    assert seen == [(False, False)] * 3
    assert kept.read_text() == "rows"


def test_the_last_failure_keeps_what_there_is_and_what_was_there_before_stays(tmp_path):
    old, new = tmp_path / "old", tmp_path / "new"
    old.write_text("before")

    def work():
        new.write_text("half")
        raise ConnectionError

    with pytest.raises(ConnectionError):
        attempted(work, [old, new], attempts=2)
    assert (old.read_text(), new.read_text()) == ("before", "half")


def test_a_step_names_parameters_that_it_has():
    with pytest.raises(TypeError, match="tabel"):
        step("tabel")(lambda table: None)


def test_a_process_of_a_step_tries_again_and_says_the_last_error_plainly(tmp_path):
    program = """
from zeroskew.errors import OnlineStoreUnavailable
from zeroskew.steps import repeating
from zeroskew.steps.step import step
repeating.PAUSES = (0.0,)
@step()
def go():
    raise OnlineStoreUnavailable("is away", where="redis", mend="wait")
go()
"""
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=120,
        env=os.environ | {ATTEMPTS: "2", "ZEROSKEW_HOME": str(tmp_path)},
    )  # fmt: skip
    assert done.returncode == 1
    lines = done.stderr.splitlines()
    assert lines[0].startswith("attempt 1 of 2 failed")
    assert lines[1:] == ["error (OnlineStoreUnavailable)", "redis: is away", "  → wait"]


@pytest.fixture
def busy():
    """A server that is asked too much."""

    class Handler(BaseHTTPRequestHandler):
        status = 503

        def do_GET(self):
            self.send_response(self.status)
            self.send_header("Content-Length", "0")
            self.end_headers()

        do_HEAD = do_PUT = do_POST = do_GET

        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


def test_what_requests_says_of_a_busy_server_is_told_from_a_refusal(busy):
    import requests

    url = f"http://127.0.0.1:{busy.server_port}/x"
    get = lambda at: requests.get(at, timeout=5).raise_for_status()  # noqa: E731
    assert worth_repeating(caught(lambda: get(url)))
    assert worth_repeating(caught(lambda: get(CLOSED)))
    busy.RequestHandlerClass.status = 404
    assert not worth_repeating(caught(lambda: get(url)))


@pytest.mark.parametrize("away", [True, False])
def test_a_registry_that_is_away_or_busy(monkeypatch, tmp_path, busy, away):
    from zeroskew.registry import Registry

    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    uri = CLOSED if away else f"http://127.0.0.1:{busy.server_port}"
    assert worth_repeating(caught(lambda: Registry(uri).version("m", "champion")))


def test_a_registry_that_has_no_such_version(tmp_path):
    from zeroskew.registry import Registry

    registry = Registry(f"sqlite:///{tmp_path / 'mlflow.db'}")
    assert not worth_repeating(caught(lambda: registry.version("m", "champion")))


@pytest.fixture
def bucket_away(monkeypatch):
    for name, value in {
        "AWS_ENDPOINT_URL": CLOSED, "AWS_ACCESS_KEY_ID": "x", "AWS_SECRET_ACCESS_KEY": "x",
        "AWS_DEFAULT_REGION": "r", "AWS_ALLOW_HTTP": "true", "AWS_MAX_ATTEMPTS": "1",
    }.items():  # fmt: skip
        monkeypatch.setenv(name, value)


def test_a_bucket_that_is_away_for_polars(bucket_away):
    import polars as pl

    options = {"aws_endpoint_url": CLOSED, "aws_allow_http": "true", "aws_region": "r"}
    error = caught(lambda: pl.scan_parquet("s3://b/x.parquet", storage_options=options).collect())
    assert worth_repeating(error), error


def test_a_bucket_that_is_away_for_arrow(bucket_away):
    from pyarrow import fs

    store = fs.S3FileSystem(
        access_key="x", secret_key="x", region="r", scheme="http", endpoint_override="127.0.0.1:9",
        retry_strategy=fs.AwsStandardS3RetryStrategy(max_attempts=1),
    )  # fmt: skip
    error = caught(lambda: store.open_input_file("b/x").read())
    assert worth_repeating(error), error


def test_a_bucket_that_is_away_for_boto3(bucket_away):
    boto3 = pytest.importorskip("boto3")
    error = caught(lambda: boto3.client("s3").get_object(Bucket="b", Key="x"))
    assert worth_repeating(error), error


def test_an_online_store_that_is_away():
    redis = pytest.importorskip("redis")
    assert worth_repeating(caught(lambda: redis.Redis(port=9, socket_timeout=1).ping()))
