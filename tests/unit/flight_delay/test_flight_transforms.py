"""Request-time features: total on any input, right on the ones that can be checked."""

from __future__ import annotations

import ast
import inspect
import math
import subprocess
import sys

from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.flight_delay import transforms

FUNCTIONS = {
    transforms.scheduled_time: ("scheduled_minute", "scheduled_weekday"),
    transforms.planned_flight: ("distance", "scheduled_block"),
    transforms.aircraft_readiness: (
        "scheduled_departure",
        "aircraft_last_landed",
        "aircraft_last_block",
    ),
}


@settings(deadline=None)
@given(st.data(), st.sampled_from(list(FUNCTIONS)))
def test_row_by_row_and_total(data, function):
    """Any input of n rows gives n rows, and each depends on its own row only."""
    values = st.one_of(st.none(), st.just(math.nan), st.integers(-(10**10), 10**10))
    rows = data.draw(st.lists(st.tuples(*[values] * len(FUNCTIONS[function])), max_size=8))
    columns = lambda some: {  # noqa: E731
        name: [row[i] for row in some] for i, name in enumerate(FUNCTIONS[function])
    }
    together = function(columns(rows))
    assert all(len(values) == len(rows) for values in together.values())
    for i, row in enumerate(rows):
        alone = function(columns([row]))
        assert {name: values[i] for name, values in together.items()} == {
            name: values[0] for name, values in alone.items()
        }


@given(st.integers(0, 1439), st.integers(1, 7))
def test_time_of_day_is_a_circle(minute, day):
    out = transforms.scheduled_time({"scheduled_minute": [minute], "scheduled_weekday": [day]})
    sine, cosine = out["hour_sine"][0], out["hour_cosine"][0]
    assert math.isclose(sine**2 + cosine**2, 1.0)
    back = math.atan2(sine, cosine) / (2 * math.pi) * 1440 % 1440
    assert math.isclose(back, minute, abs_tol=1e-6) or math.isclose(back, 1440, abs_tol=1e-6)
    assert (out["is_weekend"][0] == 1) == (out["weekday"][0] in ("saturday", "sunday"))


def test_an_aircraft_that_cannot_be_back():
    out = transforms.aircraft_readiness(
        {
            "scheduled_departure": [7200.0, 7200, 10**9, 7200],
            "aircraft_last_landed": [0, None, 0, 3600],
            "aircraft_last_block": [180.0, 10.0, 100.0, math.nan],
        }
    )
    assert out["aircraft_idle"] == [120.0, None, 2880.0, 60.0]
    assert out["aircraft_slack"] == [-60.0, None, 2780.0, None]


def test_planned_padding():
    out = transforms.planned_flight({"distance": [800, 0, None], "scheduled_block": [150, 60, 60]})
    assert out["planned_padding"] == [20.0, None, None]
    assert out["planned_block"] == [150.0, 60.0, 60.0]
    assert out["log_distance"] == [math.log(800), None, None]


def test_each_function_runs_from_its_text_alone():
    """Feast's registry keeps the text only: no neighbour, no import from the top of the file."""
    for function, names in FUNCTIONS.items():
        namespace: dict = {}
        exec(inspect.getsource(function), namespace)
        inputs = {name: [100, None] for name in names}
        assert namespace[function.__name__](inputs) == function(inputs)


def test_standard_library_only():
    tree = ast.parse(inspect.getsource(transforms))
    imported = {
        alias.name.split(".")[0]
        for node in ast.walk(tree)
        if isinstance(node, ast.Import)
        for alias in node.names
    } | {
        (node.module or "").split(".")[0]
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom)
    }
    assert imported <= sys.stdlib_module_names


def test_a_server_can_import_them_without_feast():
    code = (
        "import sys; from pipelines.flight_delay import transforms; "
        "assert not {'feast', 'pandas', 'polars', 'numpy'} & set(sys.modules), sys.modules.keys()"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
