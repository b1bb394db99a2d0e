"""The KFP component `validate_training_set`: may this training set train a model."""

from components.validate_training_set.component import validate_training_set

__all__ = ["validate_training_set"]
