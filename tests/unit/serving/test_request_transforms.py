"""A version's transforms, run on a server: the right function, lists in and out, clear failures."""

import pytest

from zeroskew.errors import ConfigError
from zeroskew.features.read_plan import PlanTransform, ReadPlan
from zeroskew.serving.request_transforms import RequestTransforms, TransformFailed

CODE = """
def double(inputs):
    inputs["a"][0] = None  # a function may do what it likes with its lists
    return {"twice": [None if x is None else 2 * x for x in inputs["b"]], "more": inputs["b"]}

def short(inputs):
    return {"twice": []}

def fails(inputs):
    return {"twice": [1 / x for x in inputs["b"]]}

def not_finite(inputs):
    return {"twice": [float("nan"), float("inf"), 1.0]}

number = 3
"""


def plan(function="transforms.py:double", mode="python", outputs=("twice",)):
    made = PlanTransform(
        "t", function, mode, ("a",), {"b": "float64"}, dict.fromkeys(outputs, "float64")
    )
    return ReadPlan("p", "s", "v", (), (), (made,))


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "transforms.py").write_text(CODE)
    return tmp_path


def test_outputs_of_the_named_function(folder):
    transforms = RequestTransforms(plan(outputs=("more", "twice")), folder)
    assert transforms.names == ("more", "twice")
    columns = {"a": [1], "b": [4.0]}
    assert transforms.run(columns, 1) == {"more": [4.0], "twice": [8.0]}
    assert columns == {"a": [1], "b": [4.0]}


def test_what_is_not_finite_is_missing(folder):
    run = RequestTransforms(plan("transforms.py:not_finite"), folder).run
    assert run({"a": [1] * 3, "b": [1.0] * 3}, 3) == {"twice": [None, None, 1.0]}


@pytest.mark.parametrize(
    ("function", "said"),
    [
        ("short", "does not give 1 values of 'twice'"),
        ("fails", "ZeroDivisionError"),
    ],
)
def test_a_function_that_cannot_is_named(folder, function, said):
    run = RequestTransforms(plan(f"transforms.py:{function}"), folder).run
    with pytest.raises(TransformFailed, match=said) as raised:
        run({"a": [1], "b": [0.0]}, 1)
    assert "transform t" in str(raised.value)


@pytest.mark.parametrize(
    ("function", "mode", "said"),
    [
        ("transforms.py:double", "pandas", "no pandas in the server"),
        ("other.py:double", "python", "lacks this file"),
        ("transforms.py:gone", "python", "no function 'gone'"),
        ("transforms.py:number", "python", "no function 'number'"),
    ],
)
def test_what_cannot_be_served_is_refused_when_loaded(folder, function, mode, said):
    with pytest.raises(ConfigError, match=said):
        RequestTransforms(plan(function, mode), folder)


def test_a_file_that_does_not_import_says_why(folder):
    (folder / "transforms.py").write_text("import pandas_of_the_future")
    with pytest.raises(ConfigError, match="pandas_of_the_future"):
        RequestTransforms(plan(), folder)
