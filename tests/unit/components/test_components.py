"""Every component: thin, typed, documented, and compiled without anything to install."""

import ast
import importlib
from pathlib import Path

import pytest
from kfp import dsl

FOLDER = Path(__file__).parents[3] / "components"
NAMES = sorted(path.parent.name for path in FOLDER.glob("*/component.py"))


def component(name):
    return getattr(importlib.import_module(f"components.{name}"), name)


def test_the_steps_of_the_design_are_there():
    assert set(NAMES) >= {
        "ingest", "validate_sources", "gate", "join", "validate_training_set", "train", "export",
        "evaluate", "register", "materialise", "predict",
    }  # fmt: skip


@pytest.mark.parametrize("name", NAMES)
def test_it_is_a_component_that_installs_nothing(name):
    executor = component(name).component_spec.implementation.container
    assert "pip install" not in " ".join([*executor.command, *executor.args])
    assert component(name).component_spec.description


@pytest.mark.parametrize("name", NAMES)
def test_its_body_is_one_import_and_one_call_of_the_library(name):
    tree = ast.parse((FOLDER / name / "component.py").read_text())
    (function,) = [node for node in tree.body if isinstance(node, ast.FunctionDef)]
    imports = [node for node in ast.walk(function) if isinstance(node, ast.ImportFrom)]
    (imported,) = imports
    assert imported.module.startswith("zeroskew.steps.")
    called = imported.names[0].name
    calls = [
        node for node in ast.walk(function)
        if isinstance(node, ast.Call) and getattr(node.func, "id", "") == called
    ]  # fmt: skip
    assert len(calls) == 1
    assert len(function.body) <= 6


@pytest.mark.parametrize("name", NAMES)
def test_its_readme_names_every_input_and_output(name):
    text = (FOLDER / name / "README.md").read_text()
    spec = component(name).component_spec
    for port in [*(spec.inputs or {}), *(spec.outputs or {})]:
        assert f"`{port}`" in text, port
    assert "## Alone" in text


def test_the_evaluation_shows_itself_in_the_dashboard():
    outputs = component("evaluate").component_spec.outputs
    kinds = {name: output.type.partition("@")[0] for name, output in outputs.items()}
    assert kinds["metrics"] == dsl.Metrics.schema_title
    assert kinds["curves"] == dsl.ClassificationMetrics.schema_title
    assert kinds["report"] == dsl.HTML.schema_title
