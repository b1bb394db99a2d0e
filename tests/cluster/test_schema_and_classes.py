"""A real API server and the classes behind a CRD refuse the same manifests.

Specs with one value changed, field by field: schema, defaults and CEL rules are the server's own.
"""

import copy
import re
import runpy
from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml
from dry_run import DryRun
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from zeroskew.errors import ConfigError
from zeroskew.monitoring.metric_spec import default_metrics
from zeroskew.monitoring.monitor_spec import parse_monitor
from zeroskew.rollout.rollout_spec import parse_spec

pytestmark = pytest.mark.cluster
ROOT = Path(__file__).parents[2]
_CHECKS = SimpleNamespace(**runpy.run_path(str(ROOT / "tests/unit/rollout/crd_checks.py")))
_WORLD = runpy.run_path(str(ROOT / "tests/unit/rollout/rollout_world.py"))
_LARGE = runpy.run_path(str(ROOT / "tests/unit/monitoring/large_monitor.py"))
KINDS = {"modelrollouts": "ModelRollout", "driftmonitors": "DriftMonitor"}
EXAMPLES = settings(
    max_examples=400, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
VALUES = [
    True, "", "x", "1", "-1", 0, -1, 1, 2, 5, 50, 100, 101, 499, 10**12, 0.5, -2.5, [], {}, [{}],
    "10s", "1m", "1ns", "999999h", "Nobody", "a" * 400, "/", "/v2/x", "*.a.b", "a b", "PSI",
    "ScorePSI", "Performance", "Freshness", "Profiles", "Manual", "Disabled", "s3://b/log",
    "http://p", {"min": 1}, {"max": 0}, {"min": 2, "max": 1}, {"percent": 3}, {"duration": "1m"},
    ["late"], ["champion"], ["nobody"], ["*", "b"],
]  # fmt: skip
OPAQUE = [("template", "inferenceService"), ("template", "servingRuntime")]
# What needs loops over steps, or names of a map's fields, is the classes' alone.
ROLLOUT_ACROSS = re.compile(
    r"mirror|nothing to|no metric can|`spec\.template\.(labels|annotations)"
)


@pytest.fixture(scope="session")
def servers(cluster):
    documents = [
        yaml.safe_load((ROOT / f"manifests/crds/zeroskew.dev_{plural}.yaml").read_text())
        for plural in KINDS
    ]
    cluster.install(documents)
    return {plural: DryRun(cluster, plural, "default") for plural in KINDS}


def document(plural, spec):
    return {
        "apiVersion": "zeroskew.dev/v1alpha1",
        "kind": KINDS[plural],
        "metadata": {"name": "a"},
        "spec": spec,
    }


def large_rollout(strategy):
    spec = _WORLD["manifest"](strategy=strategy)
    spec["analysis"]["metrics"] = [
        {"name": "a", "type": "LatencyRatio", "thresholdRange": {"max": 2}, "quantile": 0.5,
         "slices": ["carrier"], "minSamples": 10, "dryRun": True},
    ]  # fmt: skip
    spec["service"] |= {"hosts": ["a.b"], "timeout": "2s", "modelPath": "/v2/x", "port": 80}
    spec["template"] |= {"labels": {"a": "b"}, "annotations": {"c": "d"}}
    return spec


def change(data, spec):
    """One field has another value, is away, or has a field in it that nobody knows."""
    paths = [
        path for path in _CHECKS.paths(spec) if path and not (len(path) > 3 and path[:2] in OPAQUE)
    ]
    where = data.draw(st.sampled_from(paths))
    *parents, last = where
    here = spec
    for part in parents:
        here = here[part]
    match data.draw(st.sampled_from(["value", "delete", "unknown"])):
        case "value":
            here[last] = copy.deepcopy(data.draw(st.sampled_from(VALUES)))
        case "delete":
            del here[last]
        case "unknown":
            free = [*OPAQUE, ("template", "labels"), ("template", "annotations")]
            if isinstance(here[last], dict) and where[:2] not in free:
                here[last]["nobodyKnows"] = 1
    return where


def agree(refusal, parse, spec, where, across=None):
    try:
        parse(spec)
        said = None
    except ConfigError as error:
        said = str(error)
    if refusal is None:
        assert said is None or (across and across.search(said)), (where, said)
    else:
        assert said is not None, (where, refusal)
        assert "`spec" in said


@EXAMPLES
@given(data=st.data())
def test_rollouts(servers, data):
    spec = large_rollout(data.draw(st.sampled_from(sorted(_WORLD["STRATEGIES"]))))
    where = change(data, spec)
    refusal = servers["modelrollouts"].create(document("modelrollouts", spec))
    agree(refusal, parse_spec, spec, where, ROLLOUT_ACROSS)


@EXAMPLES
@given(data=st.data())
def test_monitors(servers, data):
    spec = _LARGE["large_monitor"]()
    where = change(data, spec)
    refusal = servers["driftmonitors"].create(document("driftmonitors", spec))
    agree(refusal, parse_monitor, spec, where)


def test_every_type_of_metric_is_taken_with_nothing_but_what_it_needs(servers):
    """The server fills in `features`, which not every type has, before it asks its rules."""
    needs = {"Freshness": {"max": 3600}, "Performance": {"min": 0.7}}
    kinds = {each.type for each in default_metrics()} | {"ConsistencyMismatch", *needs}
    spec = {"modelRef": {"name": "fraud"}, "trigger": {"pipelineRef": {"name": "training"}}}
    spec["metrics"] = [
        {"name": kind.lower(), "type": kind}
        | ({"thresholdRange": needs[kind]} if kind in needs else {})
        for kind in sorted(kinds)
    ]
    parse_monitor(spec)
    assert servers["driftmonitors"].create(document("driftmonitors", spec)) is None
