"""Sending what happened to people, beside the operator's work and never in its way.

The settings, texts and the rule of repeating are in zeroskew/notifications. An event of Kubernetes
is where a message waits: a label says that it does, an annotation who has got it. What a killed
operator left is found there by the next.
"""

from __future__ import annotations

from operators.notifications.notifier import Notifier

__all__ = ["Notifier"]
