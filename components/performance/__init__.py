"""The KFP component `performance`: AUC and calibration on labels that have arrived."""

from components.performance.component import performance

__all__ = ["performance"]
