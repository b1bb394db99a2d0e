"""From the `rollout` section of model.yaml and a rendered version to a ModelRollout."""

import runpy
from pathlib import Path

import pytest
from pydantic import ValidationError

from zeroskew.errors import ConfigError
from zeroskew.rollout.manifests import serving_manifests
from zeroskew.rollout.rollout_config import RolloutSection, rollout_manifest, template_of
from zeroskew.rollout.rollout_spec import parse_spec

_REGISTERED = runpy.run_path(str(Path(__file__).with_name("registered.py")))
PLACE, config, version = (_REGISTERED[name] for name in ("PLACE", "config", "version"))
GATEWAY = {"service": {"gateway_refs": [{"name": "ml", "section_name": "http"}]}}


def rendered():
    return serving_manifests(version(), config(), **PLACE)


def section(**fields):
    return RolloutSection.model_validate(GATEWAY | fields, by_alias=False, by_name=True)


def test_the_template_is_what_was_rendered():
    _, runtime, service, budget = rendered()
    manifest = rollout_manifest(
        section(), "flight_delay", 3, template_of(rendered()), namespace="models"
    )
    template = parse_spec(manifest["spec"]).template
    assert template.inference_service == service["spec"]
    assert template.serving_runtime == runtime["spec"]
    assert template.pod_disruption_budget == budget["spec"]
    assert template.labels == service["metadata"]["labels"]
    assert template.annotations == service["metadata"]["annotations"]
    assert manifest["metadata"]["name"] == "flight-delay"
    assert manifest["spec"]["modelRef"] == {"name": "flight_delay", "version": "3"}


def test_the_sections_words_become_the_manifests():
    told = section(
        strategy={"steps": [{"set_mirror": {"percent": 10}}, {"analysis": {"duration": "5m"}},
                            {"set_mirror": {"percent": 0}}, {"pause": {}}, {"set_weight": 30}]},
        analysis={"failure_limit": 0, "metrics": [
            {"name": "late", "type": "LatencyRatio", "threshold_range": {"max": 2}}]},
        rollback={"scale_down_delay_seconds": 60},
    )  # fmt: skip
    spec = rollout_manifest(told, "m", 3, template_of(rendered()), namespace="models")["spec"]
    assert spec["strategy"]["steps"][0] == {"setMirror": {"percent": 10}}
    assert spec["strategy"]["steps"][3] == {"pause": {}}
    assert spec["analysis"]["metrics"][0]["thresholdRange"] == {"max": 2.0}
    assert spec["service"]["gatewayRefs"] == [{"name": "ml", "sectionName": "http"}]
    parsed = parse_spec(spec)
    assert parsed.strategy == told.strategy
    assert parsed.analysis == told.analysis
    assert parsed.rollback == told.rollback


@pytest.mark.parametrize(
    "fields",
    [
        {"strategy": {"steps": [{"set_weight": 50}, {"set_weight": 5}]}},
        {"strategy": {"steps": [{"setWeight": 50}]}},
        {"analysis": {"metrics": []}},
        {"analysis": {"interval": "1s"}},
        {"nobody": 1},
    ],
)
def test_a_wrong_section_is_refused(fields):
    with pytest.raises(ValidationError):
        section(**fields)


def test_a_rollout_needs_gateways_names_and_a_template():
    template = template_of(rendered())
    with pytest.raises(ConfigError, match="gateway_refs"):
        rollout_manifest(RolloutSection(), "m", 3, template, namespace="models")
    with pytest.raises(ConfigError, match="shorter name"):
        rollout_manifest(section(), "m" * 39, 3, template, namespace="models")
    with pytest.raises(ConfigError, match="namespace"):
        rollout_manifest(section(), "m", 3, template, namespace="Models")
    with pytest.raises(ConfigError, match="version"):
        rollout_manifest(section(), "m", 0, template, namespace="models")
    with pytest.raises(ConfigError, match="InferenceService"):
        template_of([])
    with pytest.raises(ConfigError, match="predictor"):
        rollout_manifest(section(), "m", 3, template | {"inferenceService": {}}, namespace="models")
