"""Versions to deploy, rendered as the command renders them."""

import runpy
from pathlib import Path

from zeroskew.record import Measure
from zeroskew.rollout.manifests import serving_manifests
from zeroskew.rollout.rollout_config import RolloutSection, rollout_manifest, template_of

_REGISTERED = runpy.run_path(str(Path(__file__).parents[2] / "unit/rollout/registered.py"))
GATEWAYS = {"service": {"gateway_refs": [{"name": "ml"}]}}
SECTION = RolloutSection.model_validate(GATEWAYS, by_name=True)


def registered(number, model="flight_delay"):
    return _REGISTERED["version"](
        model, number,
        metrics={"auc": Measure(0.7421, 0.74, 0.745)}, compared_by="auc", margin=0.002,
        difference=Measure(0.004, 0.003, 0.005), compared_against=max(1, number - 1),
        verdict="wins", verdict_reason=f"auc of version {number} is better by 0.0040",
    )  # fmt: skip


def rendered(number, model="flight_delay", image="registry.test/triton:1"):
    documents = serving_manifests(
        registered(number, model), _REGISTERED["config"](model),
        storage_uri=f"s3://models/{model}/{number}", image=image, namespace="models",
    )  # fmt: skip
    return rollout_manifest(SECTION, model, number, template_of(documents), namespace="models")


def deployment(number, model="flight_delay", **changes):
    """Arguments of `deploy`."""
    return rendered(number, model, **changes), registered(number, model)
