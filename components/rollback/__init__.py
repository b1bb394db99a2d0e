"""The KFP component `rollback`: the version before, in the repository that the cluster follows."""

from components.rollback.component import rollback

__all__ = ["rollback"]
