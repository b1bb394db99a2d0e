"""What is served, where, as whom, and what a cluster would refuse."""

import re
import runpy
from pathlib import Path

import kubernetes_validate
import pytest
import yaml

from zeroskew.errors import ConfigError, RegistryError, ServingError
from zeroskew.rollout.manifests import serving_manifests, to_yaml
from zeroskew.rollout.triton_container import EXIT_SECONDS, GRACE_SECONDS

_REGISTERED = runpy.run_path(str(Path(__file__).with_name("registered.py")))
PLACE, config, version = (_REGISTERED[name] for name in ("PLACE", "config", "version"))
ROOT = Path(__file__).parents[3]
LABEL = re.compile(r"([A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?)?")
KUBERNETES = "1.37"


def made(serving="{}", **changes):
    documents = serving_manifests(version(), config(serving=serving), **(PLACE | changes))
    return {document["kind"]: document for document in documents}


def container(documents):
    (only,) = documents["ServingRuntime"]["spec"]["containers"]
    return only


def pod(documents):
    """The pod as KServe makes it of runtime and InferenceService, but for what it adds itself."""
    runtime, predictor = documents["ServingRuntime"]["spec"], documents["InferenceService"]["spec"]
    predictor = dict(predictor["predictor"])
    model = predictor.pop("model")
    for field in ("minReplicas", "maxReplicas", "scaleMetric", "scaleTarget", "deploymentStrategy"):
        del predictor[field]
    annotations = predictor.pop("annotations")
    spec = predictor | {
        "containers": [container(documents) | {"resources": model["resources"]}],
        "volumes": runtime["volumes"],
        "tolerations": runtime.get("tolerations", []),
    }
    return {"metadata": {"annotations": annotations, "labels": {"a": "b"}}, "spec": spec}


def variables(documents):
    return {entry["name"]: entry for entry in container(documents)["env"]}


def test_one_inference_service_per_version_in_standard_mode_and_without_a_route():
    service = made()["InferenceService"]
    assert service["metadata"]["name"] == "flight-delay-3"
    assert service["metadata"]["annotations"]["serving.kserve.io/deploymentMode"] == "Standard"
    assert service["metadata"]["labels"]["networking.kserve.io/visibility"] == "cluster-local"
    model = service["spec"]["predictor"]["model"]
    assert model["storageUri"] == PLACE["storage_uri"]
    assert model["modelFormat"] == {"name": "triton", "version": "2"}
    assert model["protocolVersion"] == "v2"


def test_the_version_has_a_runtime_of_its_own_that_serves_nobody_else():
    documents = made()
    runtime = documents["ServingRuntime"]
    named = documents["InferenceService"]["spec"]["predictor"]["model"]["runtime"]
    assert runtime["metadata"]["name"] == named == "flight-delay-3"
    assert [entry["autoSelect"] for entry in runtime["spec"]["supportedModelFormats"]] == [False]
    assert runtime["spec"]["protocolVersions"] == ["v2", "grpc-v2"]


def test_triton_is_told_its_ports_its_headers_and_no_model_control():
    found = container(made())
    assert found["command"] == ["tritonserver"]
    arguments = dict(argument.split("=", 1) for argument in found["args"])
    assert arguments["--model-repository"] == "/mnt/models"
    ports = [arguments[f"--{name}-port"] for name in ("http", "grpc", "metrics")]
    assert ports == ["8080", "9000", "8002"]
    for protocol in ("http", "grpc"):
        pattern = arguments[f"--{protocol}-header-forward-pattern"]
        for header in ("x-request-id", "traceparent", "x-zeroskew-role", "X-Request-ID"):
            assert re.fullmatch(pattern, header)
        assert not re.fullmatch(pattern, "authorization")
    assert arguments["--strict-readiness"] == "true"
    assert not any("model-control" in argument for argument in found["args"])


def test_port_80_of_the_service_is_http_and_grpc_keeps_its_number():
    ports = container(made())["ports"]
    assert [(port["name"], port["containerPort"]) for port in ports][:2] == [
        ("http1", 8080),
        ("h2c", 9000),
    ]


def test_a_repository_with_another_version_never_gets_ready():
    found = container(made())
    path = found["startupProbe"]["httpGet"]["path"]
    assert path == "/v2/models/flight_delay/versions/3/ready"
    assert found["readinessProbe"]["httpGet"]["path"] == "/v2/health/ready"
    assert found["livenessProbe"]["httpGet"]["path"] == "/v2/health/live"


def test_cpu_variant_asks_for_no_gpu_and_gpu_variant_for_one():
    cpu, gpu = made("{device: cpu, cpu: '3', memory: 5Gi}"), made("{device: gpu}")
    amounts = cpu["InferenceService"]["spec"]["predictor"]["model"]["resources"]
    assert amounts["limits"] == {"cpu": "3", "memory": "5Gi"}
    assert "tolerations" not in cpu["ServingRuntime"]["spec"]
    amounts = gpu["InferenceService"]["spec"]["predictor"]["model"]["resources"]
    assert amounts["limits"]["nvidia.com/gpu"] == amounts["requests"]["nvidia.com/gpu"] == "1"
    assert gpu["ServingRuntime"]["spec"]["tolerations"][0]["key"] == "nvidia.com/gpu"


def test_a_pod_asks_for_little_by_default_and_may_use_more():
    amounts = made()["InferenceService"]["spec"]["predictor"]["model"]["resources"]
    disk = amounts["requests"].pop("ephemeral-storage")
    assert disk.endswith("Mi")
    # Two pods of the stable version and two of the next have to fit a small cluster.
    assert amounts == {
        "requests": {"cpu": "500m", "memory": "1Gi"},
        "limits": {"cpu": "2", "memory": "2Gi"},
    }
    amounts = made("{cpu: 3, cpu_limit: 4, memory: 5Gi, memory_limit: 6Gi}")["InferenceService"][
        "spec"
    ]["predictor"]["model"]["resources"]
    assert amounts["limits"] == {"cpu": "4", "memory": "6Gi"}


def test_another_kind_of_gpu():
    documents = made("{device: gpu, gpu_type: nvidia.com/mig-1g.10gb}")
    amounts = documents["InferenceService"]["spec"]["predictor"]["model"]["resources"]
    assert amounts["limits"]["nvidia.com/mig-1g.10gb"] == "1"


def test_a_version_without_a_plan_is_not_served_on_a_gpu():
    with pytest.raises(ServingError, match="no TensorRT plan"):
        serving_manifests(version(plans={}), config(serving="{device: gpu}"), **PLACE)
    assert serving_manifests(version(plans={}), config(), **PLACE)


def test_autoscaling_is_what_model_yaml_says():
    predictor = made("{min_replicas: 3, max_replicas: 7, target_cpu_percent: 45}")[
        "InferenceService"
    ]["spec"]["predictor"]
    assert (predictor["minReplicas"], predictor["maxReplicas"]) == (3, 7)
    assert (predictor["scaleMetric"], predictor["scaleTarget"]) == ("cpu", 45)


def test_nothing_runs_as_root_or_may_become_it():
    documents = made()
    own = container(documents)["securityContext"]
    whole = pod(documents)["spec"]["securityContext"]
    for context in (own, whole):
        assert context["runAsNonRoot"] is True
        assert context["runAsUser"] == 10001
        assert context["seccompProfile"] == {"type": "RuntimeDefault"}
    assert own["allowPrivilegeEscalation"] is False
    assert own["readOnlyRootFilesystem"] is True
    assert own["capabilities"] == {"drop": ["ALL"]}
    assert documents["ServiceAccount"]["automountServiceAccountToken"] is False
    assert pod(documents)["spec"]["automountServiceAccountToken"] is False


def test_what_is_written_lies_on_disks_with_a_bound():
    documents = made("{log: {spool_mib: 2000, segment_mib: 16}}")
    disks = {
        disk["name"]: disk["emptyDir"] for disk in documents["ServingRuntime"]["spec"]["volumes"]
    }
    mounts = {m["name"]: m["mountPath"] for m in container(documents)["volumeMounts"]}
    assert mounts == {"tmp": "/tmp", "shm": "/dev/shm", "spool": "/var/spool/zeroskew"}
    assert disks["shm"]["medium"] == "Memory"
    assert all(disk["sizeLimit"].endswith("Mi") for disk in disks.values())
    assert int(disks["spool"]["sizeLimit"].removesuffix("Mi")) > 2000
    asked = documents["InferenceService"]["spec"]["predictor"]["model"]["resources"]["requests"]
    assert int(asked["ephemeral-storage"].removesuffix("Mi")) > 2000


def test_every_front_has_a_spool_of_its_own_on_the_disk():
    documents = made("{instances: 3, log: {spool_mib: 2000}}")
    disks = {v["name"]: v["emptyDir"] for v in documents["ServingRuntime"]["spec"]["volumes"]}
    assert int(disks["spool"]["sizeLimit"].removesuffix("Mi")) > 3 * 2000


def test_without_a_log_there_is_no_spool():
    documents = made("{log: {enabled: false}}")
    assert "spool" not in {m["name"] for m in container(documents)["volumeMounts"]}
    assert not {"ZEROSKEW_SPOOL", "ZEROSKEW_PREDICTION_LOG"} & set(variables(documents))


def test_a_pod_lives_longer_than_the_flush_of_its_log():
    documents = made()
    grace = documents["InferenceService"]["spec"]["predictor"]["terminationGracePeriodSeconds"]
    drain = int(container(documents)["lifecycle"]["preStop"]["exec"]["command"][1])
    assert grace == GRACE_SECONDS > drain + EXIT_SECONDS
    front = (ROOT / "zeroskew/serving/triton_front.py").read_text()
    flush = float(re.search(r"^FLUSH_SECONDS = ([0-9.]+)$", front, re.MULTILINE)[1])
    assert flush < EXIT_SECONDS


def test_endpoints_and_credentials_come_by_reference():
    found = variables(made())
    assert found["ZEROSKEW_ROLE"]["value"] == "champion"
    assert found["ZEROSKEW_SPOOL"]["value"] == "/var/spool/zeroskew"
    for name in ("ZEROSKEW_REDIS", "ZEROSKEW_PREDICTION_LOG"):
        assert found[name]["valueFrom"]["configMapKeyRef"] == {
            "name": "zeroskew-endpoints",
            "key": name,
        }
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "ZEROSKEW_LOG_KEY"):
        reference = found[name]["valueFrom"]["secretKeyRef"]
        assert reference == {"name": "zeroskew-credentials", "key": name, "optional": True}


def test_every_key_is_one_that_the_platform_offers():
    offered = yaml.safe_load((ROOT / "manifests/endpoints.yaml").read_text())["data"]
    for name, entry in variables(made()).items():
        reference = entry.get("valueFrom", {}).get("configMapKeyRef")
        assert reference is None or name in offered or reference["optional"]


def test_a_log_of_digests_does_not_start_without_its_key():
    found = variables(made("{log: {redact: {tail_number: hash}}}"))
    assert "optional" not in found["ZEROSKEW_LOG_KEY"]["valueFrom"]["secretKeyRef"]


def test_lineage_is_there_to_select_by_and_whole_to_read():
    meta = made()["InferenceService"]["metadata"]
    assert meta["labels"]["zeroskew.dev/data-hash"] == "ab" * 8
    assert meta["labels"]["zeroskew.dev/code-sha"].startswith("1f3a9c2d")
    assert meta["annotations"]["zeroskew.dev/data-hash"] == "ab" * 32
    assert meta["annotations"]["zeroskew.dev/feature-schema-version"] == "cd" * 32
    assert meta["annotations"]["zeroskew.dev/onnx-sha256"] == "ef" * 32
    assert meta["annotations"]["zeroskew.dev/run-id"] == version().run_id
    assert all(isinstance(value, str) for value in meta["annotations"].values())


@pytest.mark.parametrize(
    "changes",
    [
        {"data_hash": "sha256:" + "a" * 64},
        {"code_sha": "unknown"},
        {"code_sha": "x" * 200 + "-dirty"},
        {"code_sha": "-"},
        {"onnx_sha256": {}},
    ],
)
@pytest.mark.parametrize("name", ["flight_delay", "m_"])
def test_labels_are_ones_whatever_the_record_holds(name, changes):
    documents = serving_manifests(version(name, **changes), config(name), **PLACE)
    for document in documents:
        for value in document["metadata"]["labels"].values():
            assert LABEL.fullmatch(value), value
            assert len(value) <= 63


def test_a_promotion_changes_nothing():
    """Else it would restart the pods of the new champion."""
    from dataclasses import replace

    after = replace(version(), aliases=("previous",), stage="Archived")
    assert serving_manifests(after, config(), **PLACE) == list(made().values())


@pytest.mark.parametrize(
    "changes",
    [
        {"rollout": "3_flights"},
        {"rollout": "Flights"},
        {"rollout": "flights.late"},
        {"rollout": "f" * 47},
        {"rollout": "-flights"},
        {"namespace": "Models"},
        {"namespace": "a" * 64},
        {"namespace": ""},
        {"storage_uri": "/models/3"},
        {"storage_uri": "s3://"},
        {"storage_uri": "s3://models/with space"},
        {"storage_uri": "ftp://models/3"},
        {"image": ""},
        {"image": "two words"},
        {"role": "challenger"},
    ],
)
def test_what_a_cluster_would_refuse_is_refused_here(changes):
    with pytest.raises(ConfigError):
        made(**changes)


def test_a_name_fills_what_kserve_leaves_of_a_label():
    name = made(rollout="f" * 46, namespace="team")["InferenceService"]["metadata"]["name"]
    assert len(f"isvc.{name}-predictor") == 63
    assert len(f"{name}-predictor-team") == 63
    with pytest.raises(ConfigError, match="52 together"):
        made(rollout="f" * 46, namespace="teams")


def test_a_rollout_may_have_a_name_of_its_own():
    assert made(rollout="late_flights")["InferenceService"]["metadata"]["name"] == "late-flights-3"


def test_the_version_must_be_of_the_model():
    with pytest.raises(ConfigError, match="is one of another"):
        serving_manifests(version("another"), config(), **PLACE)


def test_a_version_without_lineage_is_not_served():
    from dataclasses import replace

    with pytest.raises(RegistryError):
        serving_manifests(replace(version(), tags={}), config(), **PLACE)


@pytest.mark.parametrize("device", ["cpu", "gpu"])
@pytest.mark.parametrize("log", ["{}", "{enabled: false}"])
def test_kinds_of_kubernetes_are_valid_and_so_is_the_pod_that_kserve_makes(device, log):
    documents = made(f"{{device: {device}, log: {log}}}")
    for kind in ("ServiceAccount", "PodDisruptionBudget"):
        kubernetes_validate.validate(documents[kind], KUBERNETES, strict=True)
    deployment = {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "x"},
        "spec": {"selector": {"matchLabels": {"a": "b"}}, "template": pod(documents)},
    }
    kubernetes_validate.validate(deployment, KUBERNETES, strict=True)


def test_that_validation_means_something():
    documents = made()
    documents["PodDisruptionBudget"]["spec"]["maxUnavailabel"] = 1
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(documents["PodDisruptionBudget"], KUBERNETES, strict=True)


def test_yaml_reads_back_as_it_was_and_has_no_anchors():
    documents = list(made("{device: gpu}").values())
    text = to_yaml(documents)
    assert list(yaml.safe_load_all(text)) == documents
    assert "&id" not in text
    assert to_yaml(documents) == text
