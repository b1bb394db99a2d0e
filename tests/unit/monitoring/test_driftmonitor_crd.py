"""DriftMonitor's schema and its classes say the same, and both say no to the same manifests."""

import copy
import json
import random
import re
import runpy
from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from zeroskew.errors import ConfigError
from zeroskew.monitoring.crd import DRIFT_MONITOR
from zeroskew.monitoring.metric_spec import default_metrics
from zeroskew.monitoring.monitor_spec import MonitorSpec, parse_monitor
from zeroskew.rollout.rollout_state import to_json

ROOT = Path(__file__).parents[3]
FILE = ROOT / "manifests/crds/zeroskew.dev_driftmonitors.yaml"
_CHECKS = SimpleNamespace(**runpy.run_path(str(ROOT / "tests/unit/rollout/crd_checks.py")))
World = runpy.run_path(str(Path(__file__).with_name("monitor_world.py")))["World"]
CRD = yaml.safe_load(FILE.read_text())
SCHEMA = _CHECKS.schema(CRD, "spec")
SPEC, STATUS = (_CHECKS.validator(_CHECKS.schema(CRD, part)) for part in ("spec", "status"))
SMALL = {"modelRef": {"name": "fraud"}, "trigger": {"pipelineRef": {"name": "fraud-training"}}}


def large():
    """Every field is said."""
    return {
        "modelRef": {"name": "fraud"},
        "suspend": False,
        "interval": "5m",
        "moderateInterval": "1m",
        "window": {"duration": "6h", "minSamples": 2000},
        "source": {"type": "Prometheus", "uri": "http://prometheus:9090"},
        "roles": ["champion"],
        "metrics": [
            {"name": "psi", "type": "PSI", "thresholdRange": {"max": 0.2}, "minFeatures": 2,
             "features": {"include": ["*"], "exclude": ["id_*"]}, "failureLimit": 3,
             "inconclusiveLimit": 4, "severity": "error", "dryRun": False},
            {"name": "auc", "type": "Performance", "thresholdRange": {"min": 0.7}, "maxAge": "24h"},
        ],
        "trigger": {
            "policy": "Automatic", "action": "Retrain", "when": "Any",
            "pipelineRef": {"name": "fraud-training", "versionName": "v 3", "experiment": "nightly",
                            "serviceAccount": "runner"},
            "parameters": [{"name": "end_time", "valueFrom": "windowEnd"},
                           {"name": "start_time", "value": "now-90d"}],
            "cooldown": "12h", "retry": {"limit": 2, "backoff": "5m"},
            "concurrencyPolicy": "Forbid", "maxRunsPerWeek": 2,
            "runDeadline": "10h", "labels": {"minFraction": 0.5, "maxDelay": "24h"},
            "runHistoryLimit": 5, "dryRun": False,
        },
    }  # fmt: skip


def test_the_file_is_what_the_classes_make():
    assert FILE.read_text() == DRIFT_MONITOR.as_yaml()
    assert json.loads(json.dumps(DRIFT_MONITOR.crd())) == CRD


def test_every_field_has_a_type_and_bounds():
    _CHECKS.assert_typed_and_bounded(SCHEMA, defaults=True)
    _CHECKS.assert_typed_and_bounded(_CHECKS.schema(CRD, "status"), defaults=False)


def test_the_schema_has_the_classes_fields_and_no_other():
    _CHECKS.assert_same_fields(MonitorSpec, SCHEMA)


@pytest.mark.parametrize("spec", [SMALL, large()])
def test_a_manifest_with_the_schemas_defaults_means_the_same(spec):
    filled = _CHECKS.filled(SCHEMA, copy.deepcopy(spec))
    assert set(filled) == set(large()) - ({"moderateInterval"} if spec is SMALL else set())
    assert parse_monitor(filled) == parse_monitor(spec)
    SPEC.validate(filled)
    assert _CHECKS.broken_rules(SCHEMA, filled) == []


def test_every_type_of_metric_is_taken_with_nothing_but_what_it_needs():
    """The server fills in `features`, which not every type has, before it asks its rules."""
    spec = copy.deepcopy(SMALL)
    needs = {"Freshness": {"max": 3600}, "Performance": {"min": 0.7}}
    kinds = {each.type for each in default_metrics()} | {"ConsistencyMismatch", *needs}
    spec["metrics"] = [
        {"name": kind.lower(), "type": kind}
        | ({"thresholdRange": needs[kind]} if kind in needs else {})
        for kind in sorted(kinds)
    ]
    parse_monitor(spec)
    assert _CHECKS.broken_rules(SCHEMA, _CHECKS.filled(SCHEMA, spec)) == []


VALUES = [
    True, "", "x", "1", -1, 0, 1, 2, 499, 10**12, 0.5, -2.5, [], {}, [{}], "10s", "1m", "1ns",
    "999999h", "Nobody", "a" * 400, "/log", "s3://b/log", "http://p", "a b", "PSI", "ScorePSI",
    "Performance", "Freshness", "Profiles", "Manual", "Disabled", {"min": 1}, {"max": 0},
    {"min": 2, "max": 1}, ["champion"], ["nobody"], ["*", "b"],
]  # fmt: skip
# A list by name, which the server keeps free of doubles without a rule.
ACROSS = re.compile("more than one is named")


@settings(max_examples=600, deadline=None)
@given(data=st.data())
def test_schema_and_classes_refuse_the_same(data):
    spec = copy.deepcopy(large())
    where = data.draw(st.sampled_from([path for path in _CHECKS.paths(spec) if path]))
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
            if isinstance(here[last], dict):
                here[last]["nobodyKnows"] = 1
    taken, broken = SPEC.is_valid(spec), []
    if taken:
        broken = _CHECKS.broken_rules(SCHEMA, _CHECKS.filled(SCHEMA, copy.deepcopy(spec)))
    try:
        parse_monitor(spec)
        said = None
    except ConfigError as error:
        said = str(error)
    if taken and not broken:
        assert said is None or ACROSS.search(said), (where, said)
    else:
        assert said is not None, (where, broken, list(SPEC.iter_errors(spec)))
        assert "`spec" in said


@settings(max_examples=30, deadline=None)
@given(
    seed=st.integers(0, 2**32),
    turns=st.integers(1, 120),
    policy=st.sampled_from(["Automatic", "Manual"]),
)
def test_every_status_fits_the_schema(seed, turns, policy):
    spec = copy.deepcopy(SMALL) | {"interval": "1m", "moderateInterval": "1m"}
    spec["trigger"] = spec["trigger"] | {"policy": policy, "cooldown": "10m", "runDeadline": "30m"}
    world = World(parse_monitor(spec), random.Random(seed))
    for _ in range(turns):
        world.turn()
        world.wait(30)
        STATUS.validate(to_json(world.status))


@pytest.mark.parametrize(
    ("change", "field", "reason"),
    [
        ({"trigger": {}}, "spec", "name the pipeline in pipelineRef"),
        ({"interval": "30h"}, "spec.interval", "between"),
        ({"interval": "12h", "trigger": {"pipelineRef": {"name": "a"}, "cooldown": "1h"}},
         "spec", "cooldown must not be shorter"),
        ({"source": {"type": "Prometheus"}}, "spec", "needs its address"),
        ({"source": {"uri": "http://x"}}, "spec", "is no place for Profiles"),
        ({"window": {"minSamples": 10}}, "spec.window.minSamples", "500"),
        ({"metrics": []}, "spec.metrics", "at least 1"),
        ({"metrics": [{"name": "a", "type": "Luck"}]}, "spec.metrics[0].type", "PSI"),
        ({"metrics": [{"name": "a", "type": "Performance"}]}, "spec.metrics[0]", "thresholdRange"),
        ({"metrics": [{"name": "a", "type": "PSI"}] * 2}, "spec", "more than one is named a"),
        ({"roles": ["nobody"]}, "spec.roles[0]", "champion"),
    ],
)  # fmt: skip
def test_what_makes_no_sense_is_refused_with_the_field_and_the_reason(change, field, reason):
    with pytest.raises(ConfigError) as refused:
        parse_monitor(SMALL | change)
    assert f"`{field}" in str(refused.value)
    assert reason in str(refused.value)


@pytest.mark.parametrize("raw", [None, [], "spec", {1: {2}}, {"modelRef": float("nan")}])
def test_what_is_no_spec_at_all_is_one_clear_error(raw):
    with pytest.raises(ConfigError):
        parse_monitor(raw)
