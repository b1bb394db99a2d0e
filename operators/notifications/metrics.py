"""What Prometheus can ask about notifications."""

from __future__ import annotations

from prometheus_client import Counter, Gauge

SENT = Counter("zeroskew_notifications_sent", "Messages that arrived", ["destination"])
FAILED = Counter(
    "zeroskew_notifications_failed", "Messages given up, by why", ["destination", "why"]
)
ATTEMPTS_FAILED = Counter(
    "zeroskew_notifications_attempts_failed", "Attempts that did not arrive", ["destination"]
)
DROPPED = Counter(
    "zeroskew_notifications_dropped", "Messages that a full queue did not take", ["destination"]
)
WAITING = Gauge("zeroskew_notifications_waiting", "Messages in the queue", ["destination"])
