"""What Prometheus can ask the operator."""

from __future__ import annotations

from prometheus_client import Counter, Gauge, Histogram

RECONCILE_SECONDS = Histogram(
    "zeroskew_operator_reconcile_seconds",
    "Time to observe, decide and act once for one object",
    buckets=(0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 10),
)
QUEUE_SECONDS = Histogram(
    "zeroskew_operator_queue_seconds",
    "Time between a change and the start of work on it",
    buckets=(0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1, 2, 5, 15),
)
ACTIONS = Counter("zeroskew_operator_actions", "Actions done, by kind", ["action"])
FAILURES = Counter("zeroskew_operator_failures", "Turns that failed, by reason", ["reason"])
RELISTS = Counter("zeroskew_operator_relists", "Times everything was listed", ["outcome"])
ROLLOUTS = Gauge("zeroskew_rollouts", "ModelRollouts by phase", ["phase"])
MONITOR_SECONDS = Histogram(
    "zeroskew_monitor_seconds",
    "Time to read and judge a monitor's window once, waiting for a thread included",
    buckets=(0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 10, 60, 300),
)
RETRAININGS = Counter(
    "zeroskew_retrainings", "Runs by how they ended", ["namespace", "monitor", "outcome"]
)
