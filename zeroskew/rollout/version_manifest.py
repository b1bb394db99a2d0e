"""The ModelRollout of one registered version, from the version and its model.yaml."""

from __future__ import annotations

from typing import Any

from zeroskew.model_config import ModelConfig
from zeroskew.registry import ModelVersion
from zeroskew.rollout.manifests import serving_manifests
from zeroskew.rollout.rollout_config import rollout_manifest, template_of


def version_manifest(
    version: ModelVersion, config: ModelConfig, *, storage_uri: str, image: str, namespace: str
) -> dict[str, Any]:
    """What `rollout_manifest` makes of what `serving_manifests` renders; raises as they do."""
    documents = serving_manifests(
        version, config, storage_uri=storage_uri, image=image, namespace=namespace
    )
    return rollout_manifest(
        config.rollout,
        config.name,
        version.version,
        template_of(documents),
        namespace=namespace,
    )
