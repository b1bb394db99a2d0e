"""The KFP component `validate_sources`: can sources and entity rows be joined."""

from components.validate_sources.component import validate_sources

__all__ = ["validate_sources"]
