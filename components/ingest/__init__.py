"""The KFP component `ingest`: the labelled questions of a range of time."""

from components.ingest.component import ingest

__all__ = ["ingest"]
