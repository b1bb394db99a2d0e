"""The KFP component `evaluate`: held-out metrics, and the champion on the same rows."""

from components.evaluate.component import evaluate

__all__ = ["evaluate"]
