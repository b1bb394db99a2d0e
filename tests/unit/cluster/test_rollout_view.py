"""A rollout as a person sees it: what is said, not how it is laid out."""

import io
import subprocess
import sys
from datetime import UTC, datetime, timedelta

import pytest
from rich.console import Console

from zeroskew.cluster.ages import age
from zeroskew.cluster.events import newest_events
from zeroskew.cluster.refusals import explained
from zeroskew.cluster.rollout_drawing import draw_rollout, interval_of
from zeroskew.cluster.rollout_reading import view_rollout
from zeroskew.errors import ClusterError
from zeroskew.rollout.rollout_state import MetricSeen

NOW = datetime(2026, 11, 1, 12, tzinfo=UTC)
STEPS = [{"setMirror": {"percent": 100}}, {"analysis": {}}, {"setMirror": {"percent": 0}},
         {"setWeight": 10}, {"pause": {}}, {"setWeight": 100}]  # fmt: skip
RUN = {
    "version": "2", "attempt": 4, "digest": "d", "template": "t", "generation": 3,
    "stepSince": "2026-11-01T11:00:00Z", "step": 1, "begun": True, "weight": 0, "mirror": 100,
    "trafficSince": "2026-11-01T11:50:00Z",
    "tally": {"outcome": "Inconclusive", "message": "few", "pairs": 1234, "metrics": [
        {"name": "disagreement", "outcome": "Inconclusive", "value": 0.0213, "low": 0.0151,
         "high": 0.0294, "most": 0.05},
        {"name": "latency-p99", "slice": "origin=[JFK]", "outcome": "Failed", "value": 2.5,
         "low": 2.1, "most": 1.3, "dryRun": True},
    ]},
}  # fmt: skip
SERVICE = {
    "metadata": {"name": "flight-delay-2", "labels": {"zeroskew.dev/version": "2"}},
    "status": {"conditions": [
        {"type": "Ready", "status": "False"},
        {"type": "PredictorReady", "status": "False", "reason": "FailedLoad",
         "message": "no such\nbucket"},
    ]},
}  # fmt: skip


def body(status=None, **changes):
    return {
        "metadata": {"namespace": "team", "name": "flight-delay", "generation": 3, "uid": "u",
                     "resourceVersion": "7", "annotations": changes.pop("annotations", {})},
        "spec": {
            "modelRef": {"name": "flight_delay", "version": "2"},
            "template": {"inferenceService": {"predictor": {}},
                         "servingRuntime": {"containers": [{"name": "c"}]}},
            "service": {"gatewayRefs": [{"name": "ml"}]}, "strategy": {"steps": STEPS}, **changes,
        },
        "status": {"observedGeneration": 3, "phase": "Shadowing", "message": "mirror",
                   "stable": "1", "run": RUN} | (status or {}),
    }  # fmt: skip


def drawn(view, **more):
    console = Console(file=io.StringIO(), width=160, highlight=False)
    console.print(draw_rollout(view, NOW, **more))
    return console.file.getvalue().replace("\u00a0", " ")


def test_everything_that_matters_is_on_it():
    view = view_rollout(body(), [SERVICE])
    text = drawn(view)
    for part in ("✔ 1 mirror 100 %", "▶ 2 analysis for 10m", "· 3 mirror 0 %", "· 5 approval",
                 "0.0213 [0.0151, 0.0294]", "≤ 0.05", "1,234 pairs", "origin=[JFK]", "2.5 [2.1, ∞]",
                 "Failed (dry run)", "attempt 2.4", "mirror 100 %, for 10m", "not ready",
                 "FailedLoad: no such bucket"):  # fmt: skip
        assert part in text, (part, text)


def test_what_a_cluster_says_is_no_markup():
    text = drawn(view_rollout(body({"message": "[red]\\[/x] [bold]"})))
    assert "[red]\\[/x] [bold]" in text


def test_it_says_when_it_is_out_of_date_or_the_operator_is_behind():
    assert "out of date: the server is gone" in drawn(
        view_rollout(body()), problem="the server is gone"
    )
    assert "newer (3)" in drawn(view_rollout(body({"observedGeneration": 2})))


@pytest.mark.parametrize(
    ("status", "outcome"),
    [
        ({"phase": "Succeeded", "stable": "2", "run": None}, "Succeeded"),
        ({"phase": "Succeeded", "stable": "1", "run": None}, ""),
        ({"phase": "Succeeded", "stable": "2", "run": None, "observedGeneration": 2}, ""),
        ({"phase": "RolledBack", "run": None, "rejected": {
            "version": "2", "digest": "d", "generation": 3, "reason": "Aborted", "message": "m",
            "at": "2026-11-01T00:00:00Z"}}, "RolledBack"),
        ({"phase": "RolledBack", "run": None, "rejected": {
            "version": "1", "digest": "d", "generation": 3, "reason": "Aborted", "message": "m",
            "at": "2026-11-01T00:00:00Z"}}, ""),
        ({"phase": "Failed", "stable": None}, "Failed"),
        ({}, ""),
    ],
)  # fmt: skip
def test_how_a_rollout_ended(status, outcome):
    assert view_rollout(body(status)).outcome == outcome


def test_a_spec_that_is_refused_ends_it_unless_an_attempt_goes_on():
    refused = {"conditions": [
        {"type": "Accepted", "status": "False", "reason": "InvalidSpec", "message": "no such step",
         "observedGeneration": 3, "lastTransitionTime": "2026-11-01T00:00:00Z"}]}  # fmt: skip
    assert view_rollout(body(refused)).outcome == ""
    view = view_rollout(body(refused | {"run": None}))
    assert view.outcome == "Failed"
    assert "no such step" in drawn(view)


def test_a_first_version_has_no_steps_and_the_reason_is_said():
    view = view_rollout(body({"stable": None}))
    assert view.steps == ()
    assert "first version" in drawn(view)


def test_a_status_that_nobody_can_read_is_one_message():
    with pytest.raises(ClusterError, match="status cannot be read"):
        view_rollout(body({"run": {"version": []}}))


def test_intervals_without_bounds_or_values():
    assert interval_of(MetricSeen("a", "Passed", value=None)) == "not known"
    assert interval_of(MetricSeen("a", "Passed", value=1.0, high=2.0)) == "1 [-∞, 2]"


def test_events_are_the_newest_in_order():
    told = [
        {"reason": name, "type": "Normal", "message": "a\n b", "lastTimestamp": at}
        for name, at in (("C", "2026-11-01T03:00:00Z"), ("A", "2026-11-01T01:00:00Z"),
                         ("B", "2026-11-01T02:00:00Z"))
    ]  # fmt: skip
    found = newest_events(told, 2)
    assert [each.reason for each in found] == ["B", "C"]
    assert found[0].message == "a b"


@pytest.mark.parametrize(
    ("seconds", "text"), [(5, "5s"), (119, "119s"), (120, "2m"), (7300, "2h"), (200_000, "2d")]
)
def test_ages(seconds, text):
    assert age(NOW - timedelta(seconds=seconds), NOW) == text


def test_a_forbidden_verb_names_the_role_that_has_it():
    said = (
        '{"message": "modelrollouts.zeroskew.dev \\"x\\" is forbidden: User \\"u\\" cannot patch '
        'resource \\"modelrollouts\\" in API group \\"zeroskew.dev\\" in the namespace \\"n\\""}'
    )
    assert "zeroskew-edit" in str(explained(403, said, "Forbidden", "context a"))
    assert "503" in str(explained(503, b"<html>", "Unavailable", "context a"))


def test_the_client_which_is_slow_is_imported_by_no_help_text():
    """And neither is anything of a cluster before a command needs it."""
    code = (
        "import sys; from zeroskew.cli import application; application(); "
        "assert 'kubernetes' not in sys.modules; import zeroskew.cluster.access; "
        "assert 'kubernetes' not in sys.modules"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
