"""What may be said in values, and what a wrong one is told."""

import json
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[3]
CHART = ROOT / "charts/zeroskew"
OPEN = {"endpoints", "global", "nodeSelector", "affinity", "requests", "limits"}
"""Maps whose keys are somebody else's."""


@pytest.mark.parametrize("profile", [None, "embedded", "gpu", "kubeflow"])
def test_lint_finds_nothing(profile, run_tool):
    chosen = ("-f", f"charts/zeroskew/profiles/{profile}.yaml") if profile else ()
    done = run_tool("helm", "lint", "--strict", "charts/zeroskew", *chosen)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize(
    ("setting", "said"),
    [
        ("redis.enbled=false", "enbled"),
        ("operator.replicas=2", "replicas"),
        ("images.operator.tag=latest", "/images/operator/tag"),
        ("images.operator.digest=sha256:abc", "/images/operator/digest"),
        ("bucket.storage.size=lots", "/bucket/storage/size"),
        ("raycluster.cpuWorkers.maxReplicas=-1", "/raycluster/cpuWorkers/maxReplicas"),
        ("models.namespaces={Team}", "/models/namespaces"),
        ("imagePullPolicy=Sometimes", "/imagePullPolicy"),
        ("credentials.existingSecret=", "/credentials/existingSecret"),
        ("redis.enabled=false", "endpoints.ZEROSKEW_REDIS"),
        ("mlflow.enabled=false", "endpoints.ZEROSKEW_MLFLOW"),
        ("bucket.enabled=false", "endpoints.AWS_ENDPOINT_URL"),
        ("endpoints.ZEROSKEW_REDSI=x", "endpoints.ZEROSKEW_REDSI"),
        ("models.namespaces={zeroskew}", "models.namespaces"),
    ],
)
def test_a_wrong_value_is_refused_by_name(setting, said, run_tool):
    done = run_tool("helm", "template", "z", "charts/zeroskew", "-n", "zeroskew", "--set", setting)
    assert done.returncode
    assert said in done.stderr


def test_every_value_is_in_the_schema_and_every_map_is_closed():
    schema = json.loads((CHART / "values.schema.json").read_text())
    values = yaml.safe_load((CHART / "values.yaml").read_text())

    def compare(schema, values, path):
        known = set(schema.get("properties", {}))
        if path.rpartition(".")[2] not in OPEN:
            assert schema["additionalProperties"] is False, path
            assert known - {"global"} == set(values), path
        for name, value in values.items():
            below = schema["properties"][name]
            if isinstance(value, dict) and "$ref" not in below:
                if name in OPEN:
                    continue
                compare(below, value, f"{path}.{name}")

    compare(schema, values, "")


def test_values_reach_their_pods(helm):
    digest = "sha256:" + "a" * 64
    objects = helm(
        None,
        "imageRegistry=registry.example/ml",
        f"images.operator.digest={digest}",
        "images.platform.tag=abc",
        "redis.image=registry.example/valkey:1",
        "redis.storage.size=9Gi",
        "redis.storage.className=fast",
        "mlflow.resources.requests.cpu=3",
        "mlflow.nodeSelector.disk=ssd",
        "credentials.existingSecret=keys",
        "redis.existingSecret=word",
        "imagePullSecrets[0].name=pull",
        "raycluster.enabled=true",
        "raycluster.gpuWorkers.enabled=true",
        "raycluster.gpuWorkers.maxReplicas=0",
    )
    found = {(each["kind"], each["metadata"]["name"]): each for each in objects}
    operator = found["Deployment", "zeroskew-operator"]["spec"]["template"]["spec"]
    assert operator["containers"][0]["image"] == f"registry.example/ml/zeroskew-operator@{digest}"
    assert operator["imagePullSecrets"] == [{"name": "pull"}]
    keys = {
        entry["valueFrom"]["secretKeyRef"]["name"]
        for entry in operator["containers"][0]["env"]
        if "valueFrom" in entry
    }
    assert keys == {"keys"}
    mlflow = found["Deployment", "mlflow"]["spec"]["template"]["spec"]
    assert mlflow["containers"][0]["image"] == "registry.example/ml/zeroskew-platform:abc"
    assert mlflow["containers"][0]["resources"] == {"requests": {"cpu": 3}}
    assert mlflow["nodeSelector"] == {"disk": "ssd"}
    redis = found["StatefulSet", "redis"]["spec"]
    (claim,) = redis["volumeClaimTemplates"]
    assert claim["spec"]["resources"]["requests"]["storage"] == "9Gi"
    assert claim["spec"]["storageClassName"] == "fast"
    (valkey,) = redis["template"]["spec"]["containers"]
    assert valkey["image"] == "registry.example/valkey:1"
    assert valkey["env"][0]["valueFrom"]["secretKeyRef"]["name"] == "word"
    groups = found["RayCluster", "zeroskew-ray"]["spec"]["workerGroupSpecs"]
    assert [(group["groupName"], group["maxReplicas"]) for group in groups] == [
        ("cpu", 4),
        ("gpu", 0),
    ]


def test_policies_can_be_left_to_others(helm):
    kinds = {each["kind"] for each in helm("kubeflow", "networkPolicies.enabled=false")}
    assert "NetworkPolicy" not in kinds
    assert "VirtualService" in kinds


def test_the_package_holds_what_the_templates_read(run_tool, tmp_path, helm):
    done = run_tool("helm", "package", "charts/zeroskew", "-d", str(tmp_path))
    assert done.returncode == 0, done.stderr
    (package,) = tmp_path.glob("*.tgz")
    again = run_tool("helm", "template", "z", str(package), "-n", "zeroskew")
    assert again.returncode == 0, again.stderr
    assert list(yaml.safe_load_all(again.stdout)) == helm(None)


def test_notes_say_what_is_left_to_do(run_tool):
    done = run_tool(
        "helm", "install", "z", "charts/zeroskew", "-n", "ml", "--dry-run=client",
        "--set", "models.namespaces={team}",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    notes = done.stdout.partition("NOTES:")[2]
    assert "kubectl create secret generic zeroskew-credentials -n ml" in notes
    assert "kubectl label namespace team zeroskew.dev/clients=true" in notes
