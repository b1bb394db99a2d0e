"""The KFP component `publish`: a version's Triton repository, where the cluster finds it."""

from components.publish.component import publish

__all__ = ["publish"]
