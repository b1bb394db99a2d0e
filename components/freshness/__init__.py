"""The KFP component `freshness`: how far the online store is behind."""

from components.freshness.component import freshness

__all__ = ["freshness"]
