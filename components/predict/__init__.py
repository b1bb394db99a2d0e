"""The KFP component `predict`: scores for a table of entity rows."""

from components.predict.component import predict

__all__ = ["predict"]
