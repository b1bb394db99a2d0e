"""The KFP component `train`: hyperparameter search, final fit, calibration."""

from components.train.component import train

__all__ = ["train"]
