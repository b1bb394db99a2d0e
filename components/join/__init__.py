"""The KFP component `join`: entity rows and features as they were known, split by time."""

from components.join.component import join

__all__ = ["join"]
