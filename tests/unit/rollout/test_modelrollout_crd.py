"""The schema and the classes say the same, and both say no to the same manifests."""

import copy
import json
import runpy
from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from zeroskew.errors import ConfigError
from zeroskew.rollout.crd import MODEL_ROLLOUT
from zeroskew.rollout.rollout_spec import RolloutSpec, parse_spec

ROOT = Path(__file__).parents[3]
FILE = ROOT / "manifests/crds/zeroskew.dev_modelrollouts.yaml"
_WORLD = runpy.run_path(str(Path(__file__).with_name("rollout_world.py")))
World, manifest, STRATEGIES = (_WORLD[name] for name in ("World", "manifest", "STRATEGIES"))


_CHECKS = SimpleNamespace(**runpy.run_path(str(Path(__file__).with_name("crd_checks.py"))))
CRD = yaml.safe_load(FILE.read_text())
SCHEMA = _CHECKS.schema(CRD, "spec")
SPEC, STATUS = (_CHECKS.validator(_CHECKS.schema(CRD, part)) for part in ("spec", "status"))


def test_the_file_is_what_the_classes_make():
    assert FILE.read_text() == MODEL_ROLLOUT.as_yaml()
    assert json.loads(json.dumps(MODEL_ROLLOUT.crd())) == CRD


def test_every_field_has_a_type_and_bounds():
    _CHECKS.assert_typed_and_bounded(SCHEMA, defaults=True)
    _CHECKS.assert_typed_and_bounded(_CHECKS.schema(CRD, "status"), defaults=False)


def test_the_schema_has_the_classes_fields_and_no_other():
    _CHECKS.assert_same_fields(RolloutSpec, SCHEMA)


def test_a_manifest_with_the_schemas_defaults_means_the_same():
    small = {k: v for k, v in manifest().items() if k in ("modelRef", "template", "service")}
    filled = _CHECKS.filled(SCHEMA, copy.deepcopy(small))
    assert set(filled) > set(small)
    assert filled["strategy"]["steps"][0] == {"setMirror": {"percent": 100}}
    assert parse_spec(filled) == parse_spec(small)
    assert parse_spec(filled).run_digest == parse_spec(small).run_digest
    SPEC.validate(filled)


@settings(max_examples=30, deadline=None)
@given(
    outcomes=st.lists(st.sampled_from(["Passed", "Failed", "Inconclusive", "Error"]), max_size=40),
    strategy=st.sampled_from(sorted(STRATEGIES)),
)
def test_every_status_fits_the_schema(outcomes, strategy):
    world = World(strategy=strategy)
    world.settle()
    world.change_spec(modelRef__version="2")
    for outcome in outcomes:
        world.turn()
        STATUS.validate(world.status)
        world.obey(outcome)


@pytest.mark.parametrize(
    ("steps", "field", "reason"),
    [
        ([{"setWeight": 50}, {"setWeight": 20}], "steps[1]", "never fall"),
        ([{"setWeight": 5}, {"setMirror": {"percent": 5}}], "steps[1]", "before the first"),
        ([{"setMirror": {"percent": 5}}, {"setWeight": 5}], "steps[1]", "end mirroring"),
        ([{"setMirror": {"percent": 5}}, {"setMirror": {"percent": 0}}], "steps[1]", "an analysis"),
        ([{"setMirror": {"percent": 5}}, {"analysis": {}}], "strategy`", "before the last step"),
        ([{"analysis": {}}], "steps[0]", "neither a mirror nor weight"),
        ([{"setWeight": 100}, {"analysis": {}}], "steps[1]", "nothing to compare"),
        ([{"pause": {}}, {"setWeight": 5}, {"pause": {}}], "steps[2]", "only one pause"),
        ([{"setWeight": 5, "pause": {}}], "steps[0]", "exactly one"),
        ([{}], "steps[0]", "exactly one"),
        ([], "steps", "at least 1"),
        ([{"pause": {"duration": "1s"}}] * 33, "steps", "at most 32"),
        ([{"setWeight": 0}], "steps[0].setWeight", "greater than or equal to 1"),
        ([{"pause": {"duration": "1y"}}], "steps[0].pause.duration", "pattern"),
        ([{"pause": {"duration": "721h"}}], "steps[0].pause.duration", "between"),
    ],
)
def test_an_impossible_order_is_refused_with_the_step_and_the_reason(steps, field, reason):
    spec = manifest() | {"strategy": {"steps": steps}}
    with pytest.raises(ConfigError) as refused:
        parse_spec(spec)
    assert field in str(refused.value)
    assert reason in str(refused.value)


def test_a_canary_judged_by_pairs_only_is_refused():
    spec = manifest(strategy="canary")
    spec["analysis"]["metrics"] = [
        {"name": "pairs", "type": "Disagreement", "thresholdRange": {"max": 0.1}}
    ]
    with pytest.raises(ConfigError, match="need mirrored requests"):
        parse_spec(spec)


@pytest.mark.parametrize("raw", [None, [], "spec", {1: {2}}, {"modelRef": float("nan")}])
def test_what_is_no_spec_at_all_is_one_clear_error(raw):
    with pytest.raises(ConfigError):
        parse_spec(raw)


def test_a_container_that_is_no_object_is_refused_by_both():
    spec = manifest()
    spec["template"]["servingRuntime"]["containers"] = ["late"]
    assert not SPEC.is_valid(spec)
    with pytest.raises(ConfigError, match="every one of `containers` must be an object"):
        parse_spec(spec)
