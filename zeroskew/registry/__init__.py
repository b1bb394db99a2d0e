"""Model versions in MLflow: lineage, lifecycle, promotion history, rollback.

    registry = Registry.from_environment()
    version = registry.register("flight_delay", record, {"model.onnx": path, …})
    registry.promote("flight_delay", version, "better by 0.004 AUC", expected_champion=1)
    registry.rollback("flight_delay", "alerts after the rollout")

What a writer may rely on:

* a version appears with all files, tags and stage `Staging` in place, or not at all;
* the promotion log decides between rivals on any backend, and is never rewritten;
* on the embedded registry, writers of one machine exclude each other, so aliases follow the log
  exactly. Through a server they follow it when the call returns; a rival killed in between may
  leave an alias behind, which the next promote, rollback or settle sees and records.
"""

from zeroskew.registry.promotions import Promotion
from zeroskew.registry.registry import Registry
from zeroskew.registry.versions import (
    ANY,
    ARCHIVED,
    CHALLENGER,
    CHAMPION,
    PREVIOUS,
    PRODUCTION,
    STAGING,
    ModelVersion,
)

__all__ = [
    "ANY",
    "ARCHIVED",
    "CHALLENGER",
    "CHAMPION",
    "PREVIOUS",
    "PRODUCTION",
    "STAGING",
    "ModelVersion",
    "Promotion",
    "Registry",
]
