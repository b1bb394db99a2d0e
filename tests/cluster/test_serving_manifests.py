"""What serves a version, before a real API server with KServe's own CRDs."""

import json
import os
import runpy
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from zeroskew.rollout.manifests import serving_manifests, to_yaml

pytestmark = pytest.mark.cluster
ROOT = Path(__file__).parents[2]
_REGISTERED = runpy.run_path(str(ROOT / "tests/unit/rollout/registered.py"))
PLACE, config, version = (_REGISTERED[name] for name in ("PLACE", "config", "version"))
HERE = ("ServiceAccount", "ServingRuntime", "InferenceService", "PodDisruptionBudget")


@pytest.fixture(scope="session")
def kserve(cluster):
    """The API server with KServe's CRDs, too."""
    crds = (
        Path(os.environ.get("ZEROSKEW_CRDS") or ROOT / "../shared/crds").resolve() / "kserve.yaml"
    )
    if not crds.is_file():
        pytest.skip(f"no {crds}")
    cluster.install([each for each in yaml.safe_load_all(crds.read_text()) if each])
    return cluster


def made(namespace, serving="{}", **changes):
    return serving_manifests(
        version(number=changes.pop("number", 3)),
        config(serving=serving),
        **(PLACE | {"namespace": namespace} | changes),
    )


def stored(kserve, document):
    meta = document["metadata"]
    group = document["apiVersion"].partition("/")[0] if "/" in document["apiVersion"] else ""
    kind = document["kind"].lower() + (f".{group}" if group else "")
    return kserve.get(kind, meta["name"], "-n", meta["namespace"])


@pytest.mark.parametrize(
    "serving",
    [
        "{}",
        "{device: gpu, instances: 4}",
        "{log: {enabled: false}, min_replicas: 1, max_replicas: 1}",
        "{log: {redact: {tail_number: hash}}}",
    ],
)
def test_they_are_accepted_and_kept_whole(kserve, namespace, serving):
    documents = made(namespace, serving)
    kserve.kubectl("apply", "-f", "-", input=to_yaml(documents))
    for sent in documents:
        kept = stored(kserve, sent)
        # Nothing pruned, nothing defaulted: the server holds what was sent.
        for part in ("spec", "secrets", "automountServiceAccountToken"):
            assert kept.get(part) == sent.get(part)
        for part in ("labels", "annotations"):
            assert sent["metadata"].get(part, {}).items() <= kept["metadata"].get(part, {}).items()


def test_applying_them_again_changes_nothing(kserve, namespace):
    documents = made(namespace)
    kserve.kubectl("apply", "-f", "-", input=to_yaml(documents))
    before = [stored(kserve, each)["metadata"]["resourceVersion"] for each in documents]
    kserve.kubectl("apply", "-f", "-", input=to_yaml(documents))
    assert before == [stored(kserve, each)["metadata"]["resourceVersion"] for each in documents]


def test_a_challenger_leaves_the_champion_alone(kserve, namespace):
    kserve.kubectl("apply", "-f", "-", input=to_yaml(made(namespace)))
    before = kserve.get("inferenceservices,servingruntimes", "-n", namespace)["items"]
    challenger = made(namespace, number=4, image="registry.test/zeroskew-triton:other")
    kserve.kubectl("apply", "-f", "-", input=to_yaml(challenger))
    after = kserve.get("inferenceservices,servingruntimes", "-n", namespace)["items"]
    assert len(after) == 2 * len(before) == 4
    versions = {item["metadata"]["uid"]: item["metadata"]["resourceVersion"] for item in after}
    for item in before:
        assert versions[item["metadata"]["uid"]] == item["metadata"]["resourceVersion"]


def test_versions_are_found_by_their_lineage(kserve, namespace):
    kserve.kubectl("apply", "-f", "-", input=to_yaml(made(namespace)))
    found = kserve.get(
        "inferenceservices", "-n", namespace, "-l", f"zeroskew.dev/data-hash={'ab' * 8}"
    )
    assert [item["metadata"]["name"] for item in found["items"]] == ["flight-delay-3"]


def test_the_server_would_have_pruned_a_wrong_field(kserve, namespace):
    """That "kept whole" above means something."""
    documents = made(namespace)
    documents[2]["spec"]["predictor"]["scaleTargets"] = 60
    kserve.kubectl("create", "--validate=false", "-f", "-", input=to_yaml(documents))
    assert stored(kserve, documents[2])["spec"] != documents[2]["spec"]


def test_the_server_would_have_refused_a_wrong_value(kserve, namespace):
    documents = made(namespace)
    documents[2]["spec"]["predictor"]["scaleMetric"] = "gpu"
    refused = kserve.kubectl("create", "-f", "-", input=to_yaml(documents), check=False)
    assert refused.returncode
    assert "scaleMetric" in refused.stderr


def test_the_command_writes_what_kubectl_takes(kserve, namespace, tmp_path, monkeypatch):
    from zeroskew.registry import Registry

    monkeypatch.setenv("ZEROSKEW_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("ZEROSKEW_MLFLOW", raising=False)
    graph = tmp_path / "model.onnx"
    graph.write_bytes(b"graph")
    registry = Registry.from_environment()
    number = registry.register("flight_delay", version().record, {"export/model.onnx": graph})
    registry.promote("flight_delay", number, "first")
    model = tmp_path / "flight_delay"
    model.mkdir()
    (model / "model.yaml").write_text(
        "name: flight_delay\nfeature_service: flights_v1\n"
        "entity_rows: {path: rows.parquet, label: late}\nserving: {min_replicas: 5}\n"
    )
    command = [
        Path(sys.executable).parent / "zeroskew", "serving", "manifests", model,
        "--storage-uri", PLACE["storage_uri"], "--image", PLACE["image"], "-n", namespace,
    ]  # fmt: skip
    done = subprocess.run(
        [str(part) for part in command], check=True, capture_output=True, text=True
    )
    documents = list(yaml.safe_load_all(done.stdout))
    assert [document["kind"] for document in documents] == list(HERE)
    kserve.kubectl("create", "-f", "-", input=to_yaml(documents))
    kept = kserve.get("inferenceservice", "flight-delay-1", "-n", namespace)
    assert kept["spec"]["predictor"]["minReplicas"] == 5
    assert json.loads(json.dumps(documents[2]["spec"])) == kept["spec"]

    done = subprocess.run(
        [*map(str, command), "--out", str(tmp_path / "serving.yaml"), "--version", "7"],
        capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "serving.yaml").exists()
