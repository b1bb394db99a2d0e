"""The KFP component `drift_report`: Evidently's page about the window of a decision."""

from components.drift_report.component import drift_report

__all__ = ["drift_report"]
