"""A window out of a real Prometheus that has scraped what fronts publish for hours.

Its storage is filled with promtool, so that hours pass in a moment. Both programs are looked for on
the path and in ZEROSKEW_PROMETHEUS (a folder); without them the tests of answers remain.
"""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections import defaultdict
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parent))
from triton_metrics import Pod

from zeroskew.errors import ConfigError, DataError, ServingError
from zeroskew.monitoring.measuring import measure
from zeroskew.monitoring.metric_spec import default_metrics
from zeroskew.monitoring.prometheus_profiles import PrometheusProfiles
from zeroskew.profiles import Profile, compare

pytestmark = pytest.mark.integration
SCRAPE = 120
"""Seconds."""
SCRAPES = 150
RESTART, BIRTH = 100, 110
"""Scrapes at which one pod starts anew and another begins: both in the window."""
WINDOW = timedelta(hours=3)
rng = np.random.default_rng(8)


def served(rows: int, shift: float = 0.0) -> dict:
    amount = rng.lognormal(shift, 2, rows)
    amount[rng.random(rows) < 0.1] = np.nan
    kinds = np.array([f"k{i}" for i in range(150)])
    ranks = np.minimum(rng.geometric(0.05, rows) - 1 + (rng.random(rows) < 0.02) * 100, 149)
    return {
        "amount": amount,
        "kind": kinds[ranks].tolist(),
        "quote": [('a"b', "c\\d", "e\nf", "g,h")[i] for i in rng.integers(0, 4, rows)],
        "score": rng.beta(2, 5, rows).astype(np.float32),
    }


REFERENCE = Profile.learn(served(20_000))


def programs() -> tuple[str, str] | None:
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    folder = os.environ.get("ZEROSKEW_PROMETHEUS") or str(cache / "zeroskew/prometheus")
    path = os.pathsep.join([folder, os.environ["PATH"]])
    found = [shutil.which(name, path=path) for name in ("prometheus", "promtool")]
    return None if None in found else (found[0], found[1])


class Told:
    """What was scraped when, and what was served when."""

    def __init__(self) -> None:
        # Whole minutes, so that a window ends on a scrape.
        self.end = float(int(time.time()) // SCRAPE * SCRAPE)
        self.series: dict = defaultdict(list)
        self.rows: list[tuple[float, str, dict, np.ndarray, np.ndarray]] = []
        pods = [Pod(f"p{i}", "m", "1", REFERENCE) for i in range(2)]
        pods.append(Pod("other", "m", "11", REFERENCE))
        for number in range(SCRAPES):
            at = self.end - (SCRAPES - 1 - number) * SCRAPE
            if number == RESTART:
                pods[0] = Pod("p0", "m", "1", REFERENCE)
            if number == BIRTH:
                pods.append(Pod("p3", "m", "1", REFERENCE))
            for pod in pods:
                role = "shadow" if number % 7 == 0 else "champion" if number % 3 else "canary"
                # A pod may have served much before it is scraped for the first time.
                count = 3000 if pod.name == "p3" and number == BIRTH else 40
                rows = served(count, 0.0 if pod.name != "other" else 3.0)
                status = (rng.random((2, count)) < 0.1) * rng.integers(1, 3, (2, count))
                ages = rng.exponential(60, count)
                pod.serve(role, rows, status.astype(np.uint8), ages)
                if pod.name != "other":
                    self.rows.append((at - SCRAPE / 2, role, rows, status, ages))
                for key, value in pod.scrape().items():
                    self.series[key].append((at, value))

    @property
    def until(self) -> datetime:
        return datetime.fromtimestamp(self.end, UTC)

    def openmetrics(self) -> str:
        families: dict[str, list[str]] = defaultdict(list)
        for (family, labels), samples in self.series.items():
            escaped = ",".join(
                # JSON escapes what the text format does, in the same way.
                f"{name}={json.dumps(text, ensure_ascii=False)}"
                for name, text in labels
            )
            families[family] += [f"{family}{{{escaped}}} {value} {at}" for at, value in samples]
        lines = [line for name in sorted(families) for line in families[name]]
        return "\n".join([*lines, "# EOF\n"])

    def within(self, since: float, roles: tuple[str, ...]) -> list[tuple]:
        return [entry for entry in self.rows if entry[0] > since and entry[1] in roles]


@pytest.fixture(scope="module")
def told() -> Told:
    return Told()


@pytest.fixture(scope="module")
def prometheus(told: Told, tmp_path_factory) -> Iterator[str]:
    found = programs()
    if found is None:
        pytest.skip(
            "no Prometheus: run scripts/install_prometheus.sh, or name its folder in "
            "ZEROSKEW_PROMETHEUS"
        )
    folder = tmp_path_factory.mktemp("prometheus")
    (folder / "scraped").write_text(told.openmetrics())
    (folder / "prometheus.yml").write_text("")
    subprocess.run(
        [found[1], "tsdb", "create-blocks-from", "openmetrics", "scraped", "data"],
        cwd=folder, check=True, stdout=subprocess.DEVNULL,
    )  # fmt: skip
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{probe.getsockname()[1]}"
    with open(folder / "log", "wb") as log:
        process = subprocess.Popen(
            [
                found[0], "--config.file=prometheus.yml", "--storage.tsdb.path=data",
                f"--web.listen-address={address}",
            ],
            cwd=folder, stdout=log, stderr=log,
        )  # fmt: skip
    try:
        limit = time.monotonic() + 60
        while True:
            try:
                urllib.request.urlopen(f"http://{address}/-/ready", timeout=2).close()
                break
            except OSError:
                assert process.poll() is None, (folder / "log").read_text()[-2000:]
                assert time.monotonic() < limit
                time.sleep(0.1)
        yield f"http://{address}"
    finally:
        process.terminate()
        process.wait()


def test_counts_are_those_of_the_rows_served(prometheus, told):
    """As near as increases come: a scrape at either end of each series is guessed."""
    roles = ("champion", "canary")
    since = told.until - WINDOW
    window = PrometheusProfiles(prometheus).window("m", "1", since, told.until, roles, REFERENCE)
    held = told.within(since.timestamp(), roles)
    rows = {name: np.concatenate([each[2][name] for each in held]) for name in REFERENCE.columns}
    exact = REFERENCE.measure({name: rows[name].tolist() for name in rows})
    assert window.rows == pytest.approx(exact.rows, rel=0.02)
    assert set(window.profile.columns) == set(REFERENCE.columns)
    for name, column in exact.columns.items():
        near = window.profile.columns[name]
        assert near.same_bins(column)
        assert near.total == pytest.approx(column.total, rel=0.02)
        assert near.nulls == pytest.approx(column.nulls, rel=0.1, abs=5)
    ours, slow = compare(REFERENCE, window.profile), compare(REFERENCE, exact)
    for name, drift in slow.items():
        assert ours[name].psi == pytest.approx(drift.psi, abs=3e-3)
    amount, near = exact.columns["amount"], window.profile.columns["amount"]
    assert near.counts == pytest.approx(amount.counts, rel=0.05, abs=5)
    assert near.below + near.above == pytest.approx(amount.below + amount.above, abs=5)
    # Absent values and ages have no role.
    every = told.within(since.timestamp(), ("champion", "canary", "shadow"))
    status = np.concatenate([each[3] for each in every], axis=1)
    for number, feature in enumerate(("a", "b")):
        for code, counts in ((1, window.missing), (2, window.stale)):
            assert counts[feature] == pytest.approx((status[number] == code).sum(), rel=0.05)
    ages = np.concatenate([each[4] for each in every])
    assert window.ages["v"].count == pytest.approx(len(ages), rel=0.02)
    assert window.ages["v"].mean == pytest.approx(ages.mean(), rel=0.03)


def test_roles_versions_and_models_are_told_apart(prometheus, told):
    source = PrometheusProfiles(prometheus)
    since = told.until - WINDOW
    shadow = source.window("m", "1", since, told.until, ("shadow",), REFERENCE)
    assert shadow.rows == pytest.approx(
        sum(len(each[4]) for each in told.within(since.timestamp(), ("shadow",))), rel=0.05
    )
    for model, version in (("m", "2"), ("m2", "1"), ('m"} or {x="', "1")):
        nothing = source.window(model, version, since, told.until, reference=REFERENCE)
        assert nothing.rows == 0
        assert nothing.profile.columns["amount"].same_bins(REFERENCE.columns["amount"])
    before = told.until - timedelta(days=2)
    assert source.window("m", "1", before, before + WINDOW, reference=REFERENCE).rows == 0


def test_what_drifted_is_judged_so(prometheus, told):
    source = PrometheusProfiles(prometheus)
    since = told.until - WINDOW

    def states(version: str) -> dict[str, str]:
        window = source.window("m", version, since, told.until, reference=REFERENCE)
        return {m.name: m.state for m in measure(default_metrics(), REFERENCE, window, 1000)}

    assert set(states("1").values()) == {"Stable"}
    assert states("11")["feature-psi"] == "Failed"


def test_the_digest_changes_with_rows_and_not_with_time(prometheus, told):
    source = PrometheusProfiles(prometheus)

    def digest(until: datetime) -> str:
        return source.window("m", "1", until - WINDOW, until, reference=REFERENCE).digest

    assert digest(told.until) == digest(told.until + timedelta(seconds=SCRAPE / 2))
    assert digest(told.until) != digest(told.until - timedelta(seconds=5 * SCRAPE))


def test_a_query_that_prometheus_refuses_is_told(prometheus, told):
    with pytest.raises(ServingError, match="Prometheus refuses: 400"):
        PrometheusProfiles(prometheus)._ask("sum(", told.until)


# --- answers, without a Prometheus ---------------------------------------------------------------


class Answering:
    """An HTTP server that answers as told, and keeps what it was asked."""

    def __init__(self) -> None:
        self.answer: tuple[int, bytes] = 200, b""
        self.asked: list[tuple[dict, dict]] = []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                query = parse_qs(urlsplit(self.path).query)
                outer.asked.append((query, dict(self.headers)))
                code, content = outer.answer
                self.send_response(code)
                self.end_headers()
                self.wfile.write(content)

            def log_message(self, *args: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, args=(0.02,), daemon=True).start()


@pytest.fixture
def answering() -> Iterator[Answering]:
    made = Answering()
    yield made
    made.server.shutdown()
    made.server.server_close()


NOW = datetime(2026, 3, 1, tzinfo=UTC)


def ask(url: str, reference: Profile | None = REFERENCE, **options):
    return PrometheusProfiles(url, **options).window("m", "1", NOW, NOW + WINDOW, (), reference)


@pytest.mark.parametrize(
    ("code", "content", "said"),
    [
        (200, b"<html>", "no answer of Prometheus"),
        (200, b"[]", "no answer of Prometheus"),
        (200, b'{"status": "success"}', "no answer of Prometheus"),
        (200, b'{"status": "success", "data": {"resultType": "matrix"}}', "no vector"),
        (200, b'{"status": "error", "error": "too much"}', "too much"),
        (401, b"who are you", "401 Unauthorized"),
        (422, b'{"status": "error", "error": "query timed out"}', "422 query timed out"),
        (503, b"", "503 Service Unavailable"),
    ],
)
def test_answers_that_are_none(answering, code, content, said):
    answering.answer = code, content
    with pytest.raises(ServingError, match=said) as caught:
        ask(answering.url)
    assert str(caught.value).startswith(answering.url)


def test_who_is_not_there_and_what_is_no_address(answering, monkeypatch):
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        nobody = f"http://127.0.0.1:{probe.getsockname()[1]}"
    with pytest.raises(ServingError, match="does not answer"):
        ask(nobody)
    for url in ("file:///etc/passwd", "prometheus:9090", "http://", ""):
        with pytest.raises(ConfigError, match="is no address of Prometheus"):
            ask(url)
    with pytest.raises(ConfigError, match="training set's profile"):
        ask(answering.url, None)
    monkeypatch.setattr("zeroskew.monitoring.prometheus_profiles.MOST_BYTES", 1 << 10)
    answering.answer = 200, b" " * 5000
    with pytest.raises(ServingError, match="answers with more than"):
        ask(answering.url)


def test_headers_and_paths_go_along(answering):
    answering.answer = (
        200,
        json.dumps({"status": "success", "data": {"resultType": "vector", "result": []}}).encode(),
    )
    assert ask(f"{answering.url}/prom/", headers={"Authorization": "Bearer x"}).rows == 0
    assert {headers["Authorization"] for _, headers in answering.asked} == {"Bearer x"}
    assert {query["time"][0] for query, _ in answering.asked} == {
        f"{(NOW + WINDOW).timestamp():.3f}"
    }


def vector(*series: tuple[dict, str]) -> tuple[int, bytes]:
    result = [{"metric": labels, "value": [0, value]} for labels, value in series]
    data = {"resultType": "vector", "result": result}
    return 200, json.dumps({"status": "success", "data": data}).encode()


def test_bins_that_the_training_set_has_not(answering):
    answering.answer = vector(({"feature": "amount", "bin": "5 to 9"}, "3"))
    with pytest.raises(DataError, match=r"feature `amount` is counted in bins .*: 5 to 9"):
        ask(answering.url)


def test_names_that_bins_share_leave_a_feature_out(answering):
    reference = Profile.learn({"x": ["null", "a"] * 300, "y": [1.0, 2.0] * 300})
    answering.answer = vector(
        ({"feature": "x", "bin": "null"}, "300"), ({"feature": "y", "bin": "null"}, "9")
    )
    assert set(ask(answering.url, reference).profile.columns) == {"y"}
