"""What a client gets: the right score for each row, flags for what was absent, clear refusals."""

from __future__ import annotations

import json
import urllib.error
import urllib.request

import numpy as np
import pytest

pytestmark = pytest.mark.integration


@pytest.fixture
def ask(server, infer, columns):
    def call(agents, customers, words, **options):
        asked = {"asked": options.pop("asked")} if "asked" in options else {}
        return infer(server, columns(agents, customers, words, **asked), **options)

    return call


def post(server, body, path="v2/models/tickets/infer", headers=None):
    """Status and JSON of a raw request."""
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    request = urllib.request.Request(f"http://{server.http}/{path}", data, headers or {})
    try:
        with urllib.request.urlopen(request, timeout=20) as answer:
            return answer.status, json.loads(answer.read())
    except urllib.error.HTTPError as error:
        return error.code, json.loads(error.read())


LONG = {"customer": {"shape": [1, 1], "datatype": "BYTES", "data": ["x" * 5000]}}


def body(**changes):
    """The JSON form of a request of one row; a change of None leaves an input out."""
    inputs = {
        "agent": {"shape": [1, 1], "datatype": "INT64", "data": [1]},
        "customer": {"shape": [1, 1], "datatype": "BYTES", "data": ["c1"]},
        "words": {"shape": [1, 1], "datatype": "INT64", "data": [10]},
    }
    inputs.update(changes)
    return {"inputs": [{"name": n, **spec} for n, spec in inputs.items() if spec is not None]}


def test_every_row_gets_the_score_of_its_own_features(ask, tickets):
    agents = [n % 40 for n in range(200)]
    customers = [f"c{n % 300}" for n in range(200)]
    words = list(range(200))
    answer = ask(agents, customers, words)
    expected = [tickets.expected(*row) for row in zip(agents, customers, words, strict=True)]
    np.testing.assert_allclose(answer.score, expected, rtol=1e-5)
    assert set(answer.missing) == set(answer.stale) == {b""}
    assert not answer.degraded.any()
    assert answer.response["model_version"] == "1"


def test_who_nobody_knows_is_imputed_and_named(ask, tickets):
    answer = ask([1, 999, 1], ["c1", "c1", "nobody"], [10, 10, 10])
    assert answer.missing.tolist() == [b"", b"agent_load,agent_solved", b"seats,product"]
    expected = [
        tickets.expected(*row) for row in ((1, "c1", 10), (999, "c1", 10), (1, "nobody", 10))
    ]
    np.testing.assert_allclose(answer.score, expected, rtol=1e-5)


def test_what_is_too_old_counts_as_missing_and_is_named(ask, tickets):
    """Without a moment of its own a request is asked now: the agents' values are years old."""
    now = ask([1], ["c1"], [10], asked=None)
    assert now.stale.tolist() == [b"agent_load,agent_solved"]
    assert now.missing.tolist() == [b""]
    unknown = ask([999], ["c1"], [10], asked=None)
    np.testing.assert_allclose(now.score, unknown.score)


def test_each_row_has_a_moment_of_its_own(server, infer, columns, asked):
    tensors = columns([1, 1], ["c1", "c1"], [5, 5])
    tensors["event_timestamp"][1] = asked + 3 * 86_400_000_000
    assert infer(server, tensors).stale.tolist() == [b"", b"agent_load,agent_solved"]


def test_the_request_id_is_the_clients_or_ours(ask):
    assert ask([1], ["c1"], [1], request_id="mine").request_id.tolist() == [b"mine"]
    header = ask([1, 2], ["c1", "c2"], [1, 2], headers={"x-request-id": "gateway-7"})
    assert header.request_id.tolist() == [b"gateway-7", b"gateway-7"]
    both = ask([1], ["c1"], [1], request_id="mine", headers={"X-Request-Id": "gateway-7"})
    assert both.request_id.tolist() == [b"mine"]
    first, second = (ask([1], ["c1"], [1]).request_id[0] for _ in range(2))
    assert first != second


def test_json_over_http(server, tickets):
    status, answer = post(server, {**body(), "outputs": [{"name": "score"}]})
    assert status == 200
    assert [o["name"] for o in answer["outputs"]] == ["score"]
    status, answer = post(server, body())
    assert {o["name"] for o in answer["outputs"]} == {
        "score", "missing", "stale", "degraded", "request_id",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"words": None}, "words"),
        ({"agent": {"shape": [1, 1], "datatype": "FP32", "data": [1.0]}}, "agent"),
        ({"agent": {"shape": [1, 2], "datatype": "INT64", "data": [1, 2]}}, "agent"),
        ({"agent": {"shape": [1], "datatype": "INT64", "data": [1]}}, "agent"),
        ({"agent": {"shape": [2, 1], "datatype": "INT64", "data": [1, 2]}}, "batch"),
        (LONG, "5000 bytes"),
        ({"mood": {"shape": [1, 1], "datatype": "FP32", "data": [1.0]}}, "mood"),
        ({"event_timestamp": {"shape": [1, 1], "datatype": "INT64", "data": [-1]}}, "since 1970"),
        ({"event_timestamp": {"shape": [1, 1], "datatype": "INT64", "data": [2**62]}}, "future"),
    ],
)
def test_a_wrong_request_is_refused_by_name(server, changes, said):
    status, answer = post(server, body(**changes))
    assert 400 <= status < 500, answer
    assert said in answer["error"]
    assert "Traceback" not in answer["error"]
    assert post(server, body())[0] == 200


def test_text_that_is_not_utf8_is_refused(server, infer, columns):
    from tritonclient.utils import InferenceServerException

    tensors = columns([1, 2], ["c1", "c2"], [1, 2])
    tensors["customer"][1, 0] = b"\xff\xfe"
    with pytest.raises(InferenceServerException, match="row 1 is not UTF-8"):
        infer(server, tensors)


def test_a_batch_beyond_the_limit_is_refused(ask):
    from tritonclient.utils import InferenceServerException

    with pytest.raises(InferenceServerException, match="256"):
        ask([1] * 257, ["c1"] * 257, [1] * 257)


@pytest.mark.parametrize(
    "raw",
    [
        b"", b"{", b"[]", b"null", b'{"inputs": 3}', b'{"inputs": [{}]}', b"\x00" * 100,
        body(agent={"shape": [1, 1], "datatype": "INT64", "data": ["x"]}),
        body(agent={"shape": [1, 1], "datatype": "INT64", "data": [2**70]}),
        body(agent={"shape": [1, 1], "datatype": "INT64", "data": []}),
    ],
)  # fmt: skip
def test_what_is_no_request_is_refused(server, raw):
    """Triton's own parser answers 400 or 500; either way the server lives and says what."""
    status, answer = post(server, raw)
    assert status in (400, 500)
    assert answer["error"]
    assert post(server, body())[0] == 200


def test_one_bad_request_leaves_its_batch_alone(serve, version_with, infer, columns, tickets):
    """A queue delay makes one batch of them; the bad one alone is refused."""
    import concurrent.futures

    from tritonclient.utils import InferenceServerException

    server = serve(version_with(batching={"max_queue_delay_microseconds": 200_000}))
    good = [columns([n], [f"c{n}"], [n]) for n in range(12)]
    bad = columns([1], ["c1"], [1])
    bad["customer"][0, 0] = b"\xff"
    with concurrent.futures.ThreadPoolExecutor(13) as pool:
        refused = pool.submit(infer, server, bad)
        answers = list(pool.map(lambda tensors: infer(server, tensors), good))
        with pytest.raises(InferenceServerException, match="not UTF-8"):
            refused.result()
    for n, answer in enumerate(answers):
        np.testing.assert_allclose(answer.score, [tickets.expected(n, f"c{n}", n)], rtol=1e-5)
    with urllib.request.urlopen(f"http://{server.http}/v2/models/tickets/stats") as stats:
        counted = json.load(stats)["model_stats"][0]
    assert counted["execution_count"] < counted["inference_count"]


def test_a_cell_that_is_something_else_hurts_its_own_request_only(
    serve, infer, columns, tickets, version_with
):
    import redis
    from tritonclient.utils import InferenceServerException

    host, _, port = tickets.redis.rpartition(":")
    with redis.Redis(host=host, port=int(port)) as store:
        keys = [k for k in store.keys(b"*") if b"customer" in k and b"c299" in k]
        assert len(keys) == 1
        before = store.hgetall(keys[0])
        store.hset(keys[0], mapping={field: b"\x3a\xff\xff" for field in before})
        try:
            server = serve()
            with pytest.raises(InferenceServerException, match="does not hold what"):
                infer(server, columns([1], ["c299"], [1]))
            answer = infer(server, columns([1], ["c1"], [1]))
            np.testing.assert_allclose(answer.score, [tickets.expected(1, "c1", 1)], rtol=1e-5)
        finally:
            store.delete(keys[0])
            store.hset(keys[0], mapping=before)


def test_both_ways_to_the_network_give_the_same_score(serve, version_with, infer, columns):
    import shutil

    rows = [n % 40 for n in range(64)], [f"c{n}" for n in range(64)], list(range(64))
    inline = serve(version_with(network="inline"))
    assert (inline.repository / "tickets/1/model.onnx").exists()
    one = infer(inline, columns(*rows)).score
    inline.stop()
    shutil.rmtree(inline.repository)
    called = serve(version_with(network="triton"))
    assert not (called.repository / "tickets/1/model.onnx").exists()
    np.testing.assert_array_equal(infer(called, columns(*rows)).score, one)


def test_an_optional_column_may_be_left_out(serve, version_with, infer, columns, tickets):
    server = serve(version_with(optional_columns=["words"]))
    tensors = columns([1], ["c1"], [10])
    del tensors["words"]
    answer = infer(server, tensors)
    assert answer.missing.tolist() == [b"log_words"]
    np.testing.assert_allclose(answer.score, [tickets.expected(1, "c1", None)], rtol=1e-5)


def test_metrics_count_what_happened(serve, infer, columns):
    import time

    server = serve()
    infer(server, columns([1, 999], ["c1", "c1"], [1, 1]))
    assert post(server, body(**LONG))[0] == 400
    wanted = {
        'zeroskew_requests_total{model="tickets",outcome="answered",version="1"} 1',
        'zeroskew_requests_total{model="tickets",outcome="refused",version="1"} 1',
        'zeroskew_absent_values_total{feature="agent_load",model="tickets",status="missing",'
        'version="1"} 1',
        'zeroskew_stage_seconds_count{model="tickets",stage="lookup",version="1"} 1',
        'zeroskew_stage_seconds_bucket{le="+Inf",model="tickets",stage="total",version="1"} 1',
        'zeroskew_batch_rows_sum{model="tickets",version="1"} 2',
    }
    deadline = time.monotonic() + 20
    while True:
        with urllib.request.urlopen(f"http://{server.metrics}/metrics") as page:
            lines = set(page.read().decode().splitlines())
        if wanted <= lines or time.monotonic() > deadline:
            break
        time.sleep(0.5)
    assert wanted <= lines
