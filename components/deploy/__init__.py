"""The KFP component `deploy`: a registered version in the repository that the cluster follows."""

from components.deploy.component import deploy

__all__ = ["deploy"]
