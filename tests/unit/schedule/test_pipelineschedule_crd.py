"""PipelineSchedule's schema and its classes say the same, and both say no to the same manifests."""

import copy
import json
import random
import runpy
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from zeroskew.errors import ConfigError
from zeroskew.rollout.rollout_state import to_json
from zeroskew.schedule.crd import PIPELINE_SCHEDULE
from zeroskew.schedule.schedule_spec import ScheduleSpec, parse_schedule

sys.path.insert(0, str(Path(__file__).parent))
from large_schedule import large_schedule
from schedule_world import World

ROOT = Path(__file__).parents[3]
FILE = ROOT / "manifests/crds/zeroskew.dev_pipelineschedules.yaml"
_CHECKS = SimpleNamespace(**runpy.run_path(str(ROOT / "tests/unit/rollout/crd_checks.py")))
CRD = yaml.safe_load(FILE.read_text())
SCHEMA = _CHECKS.schema(CRD, "spec")
SPEC, STATUS = (_CHECKS.validator(_CHECKS.schema(CRD, part)) for part in ("spec", "status"))
SMALL = {"pipelineRef": {"name": "fraud-materialisation"}, "schedule": "5 * * * *"}


def test_the_file_is_what_the_classes_make():
    assert FILE.read_text() == PIPELINE_SCHEDULE.as_yaml()
    assert json.loads(json.dumps(PIPELINE_SCHEDULE.crd())) == CRD


def test_every_field_has_a_type_and_bounds():
    _CHECKS.assert_typed_and_bounded(SCHEMA, defaults=True)
    _CHECKS.assert_typed_and_bounded(_CHECKS.schema(CRD, "status"), defaults=False)


def test_the_schema_has_the_classes_fields_and_no_other():
    _CHECKS.assert_same_fields(ScheduleSpec, SCHEMA)


@pytest.mark.parametrize("spec", [SMALL, large_schedule()])
def test_a_manifest_with_the_schemas_defaults_means_the_same(spec):
    filled = _CHECKS.filled(SCHEMA, copy.deepcopy(spec))
    assert set(filled) == set(large_schedule())
    assert parse_schedule(filled) == parse_schedule(spec)
    SPEC.validate(filled)


@settings(max_examples=20, deadline=None)
@given(
    seed=st.integers(0, 2**32),
    turns=st.integers(1, 60),
    missed=st.sampled_from([{}, {"policy": "Skip"}, {"policy": "RunAll", "limit": 2}]),
)
def test_every_status_fits_the_schema(seed, turns, missed):
    spec = parse_schedule(SMALL | {"schedule": "*/10 * * * *", "missed": missed})
    dice = random.Random(seed)
    world = World(spec, dice)
    for _ in range(turns):
        world.turn(answer=dice.choice(["good", "never", "refused"]), reachable=dice.random() < 0.8)
        world.wait(dice.choice([10, 300, 2000]))
        STATUS.validate(to_json(world.status))


@pytest.mark.parametrize(
    ("change", "field", "reason"),
    [
        ({"schedule": "60 * * * *"}, "spec.schedule", "minute: 0 to 59"),
        ({"schedule": "@daily"}, "spec.schedule", "pattern"),
        ({"schedule": "0 0 31 2 *"}, "spec.schedule", "has no time"),
        ({"schedule": "TZ=UTC 0 0 * * *"}, "spec.schedule", "pattern"),
        ({"timeZone": "Mars/Phobos"}, "spec.timeZone", "time zone database"),
        ({"missed": {"limit": 3}}, "spec.missed", "RunAll alone"),
        ({"missed": {"policy": "RunAll"}, "concurrencyPolicy": "Replace"}, "spec", "Replace would"),
        ({"concurrencyPolicy": "Allow"}, "spec.concurrencyPolicy", "Forbid"),
        ({"missed": {"startingDeadline": "1s"}}, "spec.missed.startingDeadline", "between"),
        ({"parameters": [{"name": "a"}]}, "spec.parameters[0]", "exactly one"),
        ({"parameters": [{"name": "a", "value": "1"}] * 2}, "spec", "more than one is named a"),
    ],
)  # fmt: skip
def test_what_makes_no_sense_is_refused_with_the_field_and_the_reason(change, field, reason):
    with pytest.raises(ConfigError) as refused:
        parse_schedule(SMALL | change)
    assert f"`{field}" in str(refused.value)
    assert reason in str(refused.value)
