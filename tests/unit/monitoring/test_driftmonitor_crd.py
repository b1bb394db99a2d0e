"""DriftMonitor's schema and its classes say the same, and both say no to the same manifests."""

import copy
import json
import random
import runpy
from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from zeroskew.errors import ConfigError
from zeroskew.monitoring.crd import DRIFT_MONITOR
from zeroskew.monitoring.monitor_spec import MonitorSpec, parse_monitor
from zeroskew.rollout.rollout_state import to_json

ROOT = Path(__file__).parents[3]
FILE = ROOT / "manifests/crds/zeroskew.dev_driftmonitors.yaml"
_CHECKS = SimpleNamespace(**runpy.run_path(str(ROOT / "tests/unit/rollout/crd_checks.py")))
World = runpy.run_path(str(Path(__file__).with_name("monitor_world.py")))["World"]
large_monitor = runpy.run_path(str(Path(__file__).with_name("large_monitor.py")))["large_monitor"]
CRD = yaml.safe_load(FILE.read_text())
SCHEMA = _CHECKS.schema(CRD, "spec")
SPEC, STATUS = (_CHECKS.validator(_CHECKS.schema(CRD, part)) for part in ("spec", "status"))
SMALL = {"modelRef": {"name": "fraud"}, "trigger": {"pipelineRef": {"name": "fraud-training"}}}


def test_the_file_is_what_the_classes_make():
    assert FILE.read_text() == DRIFT_MONITOR.as_yaml()
    assert json.loads(json.dumps(DRIFT_MONITOR.crd())) == CRD


def test_every_field_has_a_type_and_bounds():
    _CHECKS.assert_typed_and_bounded(SCHEMA, defaults=True)
    _CHECKS.assert_typed_and_bounded(_CHECKS.schema(CRD, "status"), defaults=False)


def test_the_schema_has_the_classes_fields_and_no_other():
    _CHECKS.assert_same_fields(MonitorSpec, SCHEMA)


@pytest.mark.parametrize("spec", [SMALL, large_monitor()])
def test_a_manifest_with_the_schemas_defaults_means_the_same(spec):
    filled = _CHECKS.filled(SCHEMA, copy.deepcopy(spec))
    assert set(filled) == set(large_monitor()) - ({"moderateInterval"} if spec is SMALL else set())
    assert parse_monitor(filled) == parse_monitor(spec)
    SPEC.validate(filled)


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
