"""Annotations by which a person asks the operator for one act.

They are for what happens once and belongs in no repository: a tool that keeps the objects as git
has them leaves annotations alone that git does not name. What is to stay belongs into the spec.
"""

from __future__ import annotations

from zeroskew.rollout.names import PREFIX

__all__ = ["ABORT", "APPROVE", "PAUSE", "RETRY", "TRIGGER", "is_set"]

APPROVE = PREFIX + "approve"
"""Of a rollout: the version that waits, or one attempt at it, `<version>.<attempt>`. Of a monitor:
the name of the run that waits."""
ABORT = PREFIX + "abort"
"""The attempt of a rollout that is to be taken off, `<version>.<attempt>`."""
PAUSE = PREFIX + "pause"
"""`true` freezes a rollout for as long as it stands there."""
RETRY = PREFIX + "retry"
"""Any text that was not there before: a rollout's rejected version is tried again."""
TRIGGER = PREFIX + "trigger"
"""Any text that was not there before: a monitor starts a run now, if its limits allow one."""


def is_set(value: str | None) -> bool:
    """Whether the value of a switch, such as `PAUSE`, switches it on."""
    return (value or "").strip().lower() not in ("", "false")
