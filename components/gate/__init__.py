"""The KFP component `gate`: nothing behind it runs when a validation failed."""

from components.gate.component import gate

__all__ = ["gate"]
