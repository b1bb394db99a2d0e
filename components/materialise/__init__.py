"""The KFP component `materialise`: newest feature values into the online store."""

from components.materialise.component import materialise

__all__ = ["materialise"]
