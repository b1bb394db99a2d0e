"""docs/conditions-and-events.md has every reason that the operator gives, and no other."""

import ast
import re
from pathlib import Path
from typing import get_args

import pytest

from zeroskew.monitoring import monitor_state
from zeroskew.rollout import rollout_actions, rollout_state

ROOT = Path(__file__).parents[3]
PAGE = ROOT / "docs/conditions-and-events.md"
WORD = re.compile(r"[A-Z][A-Za-z]+")
STATES = {"True", "False", "Unknown", "Normal", "Warning"}
SOURCES = {
    "ModelRollout": (
        "zeroskew/rollout/rollout_conditions.py", "zeroskew/rollout/machine.py",
        "zeroskew/rollout/run_progress.py", "zeroskew/rollout/rollout_view.py",
        "operators/rollout_reconciler.py",
    ),
    "DriftMonitor": (
        "zeroskew/monitoring/monitor_conditions.py", "zeroskew/monitoring/monitor_machine.py",
        "zeroskew/monitoring/drift_decision.py", "zeroskew/monitoring/machine/runs.py",
        "zeroskew/monitoring/machine/request.py",
        "operators/monitor_reconciler.py",
    ),
    "PipelineSchedule": (
        "zeroskew/schedule/conditions.py", "zeroskew/schedule/machine.py",
        "zeroskew/schedule/missed_times.py", "operators/schedule/reconciler.py",
    ),
}  # fmt: skip
"""Where conditions and events are made."""
OTHERS = {
    "ModelRollout": {"Passed", "Error"},
    "DriftMonitor": {
        "All", "Manual", "Forbid", "Retrain", "Error", "Ending", "Missing", "Refused", "Requested",
        "Pending", "Running", "Succeeded",
    },
    "PipelineSchedule": {"Ending", "Forbid", "Missing", "Refused", "RunAll"},
}  # fmt: skip
"""Words of those modules that are no reason: results, and values of specs and of runs' phases."""
MADE = {
    "ModelRollout": {
        f"{action.__name__}Failed"
        for action in get_args(rollout_actions.Action)
        if action is not rollout_actions.EmitEvent
    },
    "DriftMonitor": set(),
    "PipelineSchedule": {f"Run{how}" for how in ("Succeeded", "Failed", "Replaced")},
}
"""Reasons that are put together of parts."""
TOGETHER = {
    "ModelRollout": {"{}Failed"}, "DriftMonitor": set(), "PipelineSchedule": {"Run{}"}
}  # fmt: skip
PHASES = {
    "ModelRollout": set(get_args(rollout_state.Phase)),
    "DriftMonitor": set(get_args(monitor_state.Phase)),
    "PipelineSchedule": set(),
}


def in_code(kind):
    """Words of the modules that may be reasons, and the forms of those put together."""
    words, forms = set(), set()
    for name in SOURCES[kind]:
        tree = ast.parse((ROOT / name).read_text())
        parts = {
            id(part)
            for node in ast.walk(tree)
            if isinstance(node, ast.JoinedStr)
            for part in node.values
        }
        listed = {
            id(each)
            for node in ast.walk(tree)
            if isinstance(node, ast.Assign)
            and any(getattr(target, "id", "") == "__all__" for target in node.targets)
            for each in ast.walk(node)
        }
        for node in ast.walk(tree):
            if isinstance(node, ast.JoinedStr):
                text = "".join(
                    part.value if isinstance(part, ast.Constant) else "{}" for part in node.values
                )
                if re.fullmatch(r"[A-Za-z]*\{\}[A-Za-z]*", text) and text != "{}":
                    forms.add(text)
            elif (
                isinstance(node, ast.Constant)
                and isinstance(node.value, str)
                and id(node) not in parts | listed
                and WORD.fullmatch(node.value)
            ):
                words.add(node.value)
    return words, forms


def on_page(kind):
    """Words in backticks of the first two columns of the kind's tables, and of its prose."""
    section = PAGE.read_text().partition(f"\n## {kind}\n")[2].partition("\n## ")[0]
    found = set()
    for line in section.splitlines():
        if line.startswith("|"):
            cells = line.split(" | ")
            text = " ".join(cells[:2] if len(cells) > 3 else cells[:1])
        else:
            text = line
        found |= {word for word in re.findall(r"`([^`]+)`", text) if WORD.fullmatch(word)}
    return found


@pytest.mark.parametrize("kind", SOURCES)
def test_every_reason_is_on_the_page_and_no_other(kind):
    words, forms = in_code(kind)
    assert forms == TOGETHER[kind], "add what is put together to MADE"
    assert OTHERS[kind] <= words, f"no longer in the code: {OTHERS[kind] - words}"
    wanted = (words - STATES - OTHERS[kind]) | MADE[kind] | PHASES[kind]
    found = on_page(kind) - {kind}
    assert not wanted - found, f"{PAGE.name}, {kind}: explain {sorted(wanted - found)}"
    assert not found - wanted, f"{PAGE.name}, {kind}: the code has no {sorted(found - wanted)}"
