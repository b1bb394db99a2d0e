"""The KFP component `audit`: what was served beside the point-in-time join."""

from components.audit.component import audit

__all__ = ["audit"]
