"""The KFP component `register`: a model version with its whole lineage."""

from components.register.component import register

__all__ = ["register"]
