"""The CustomResourceDefinition of DriftMonitor.

python -m zeroskew.monitoring.crd > manifests/crds/zeroskew.dev_driftmonitors.yaml
"""

from __future__ import annotations

import sys

from zeroskew.monitoring.monitor_config import KIND, PLURAL
from zeroskew.monitoring.monitor_spec import MonitorSpec
from zeroskew.monitoring.monitor_state import MonitorStatus
from zeroskew.rollout.crd_schema import Definition
from zeroskew.rollout.names import LONGEST

__all__ = ["DRIFT_MONITOR"]

DRIFT_MONITOR = Definition(
    kind=KIND,
    plural=PLURAL,
    short="dm",
    description="Watches what a model's champion is asked about, and retrains when that departs "
    "from what it was trained on.",
    spec=MonitorSpec,
    status=MonitorStatus,
    columns=(
        ("Phase", "string", ".status.phase", 0),
        ("Drifted", "string", '.status.conditions[?(@.type=="DriftDetected")].status', 0),
        ("Version", "string", ".status.version", 0),
        ("Samples", "integer", ".status.samples", 0),
        ("Measured", "date", ".status.lastMeasurementTime", 0),
        ("Interval", "string", ".spec.interval", 1),
        ("Suspended", "boolean", ".spec.suspend", 1),
        ("Run", "string", ".status.run.name", 1),
        ("Message", "string", ".status.message", 1),
        ("Age", "date", ".metadata.creationTimestamp", 0),
    ),
    # The checksum that names a run follows it.
    longest_name=LONGEST - 10,
    made_by="zeroskew.monitoring.crd",
)

if __name__ == "__main__":
    sys.stdout.write(DRIFT_MONITOR.as_yaml())
