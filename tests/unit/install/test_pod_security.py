"""Every pod keeps to the standard `restricted`, and to more than it."""

import re

TOKEN = {"operator", "ray"}
"""Pods that talk to the API server: the operator, and the head that holds Ray's autoscaler."""


def containers(spec):
    return [*spec.get("initContainers", []), *spec["containers"]]


def test_pods_run_as_nobody_in_particular_and_change_nothing_but_volumes(pods):
    assert len(pods) >= 5
    for name, _, _, spec in pods:
        whole = spec["securityContext"]
        assert whole["runAsNonRoot"] is True, name
        assert whole["runAsUser"] >= 10_000, name
        assert whole["seccompProfile"] == {"type": "RuntimeDefault"}, name
        for field in ("hostNetwork", "hostPID", "hostIPC"):
            assert field not in spec, name
        for volume in spec.get("volumes", []):
            kinds = {"emptyDir", "configMap", "secret", "persistentVolumeClaim", "projected"}
            assert set(volume) <= {"name", *kinds}, name
            for source in volume.get("projected", {}).get("sources", []):
                # A token that is good for one server only.
                assert source["serviceAccountToken"]["audience"], name
        for container in containers(spec):
            own = container["securityContext"]
            assert own["allowPrivilegeEscalation"] is False, name
            assert own["readOnlyRootFilesystem"] is True, name
            assert own["capabilities"] == {"drop": ["ALL"]}, name
            assert "privileged" not in own
            assert all("hostPort" not in port for port in container.get("ports", []))


def test_the_autoscaler_that_kuberay_adds_is_held_to_the_same(overlay):
    made = overlay("base", "components/raycluster")
    (ray,) = (each for each in made if each["kind"] == "RayCluster")
    options = ray["spec"]["autoscalerOptions"]
    assert options["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert set(options["resources"]) == {"requests", "limits"}


def test_only_who_needs_it_has_a_token(pods, installed):
    for name, _, labels, spec in pods:
        who = labels["app.kubernetes.io/name"]
        assert spec["automountServiceAccountToken"] is (
            who in TOKEN and spec.get("serviceAccountName") != "zeroskew-ray-worker"
        ), name
        assert spec["enableServiceLinks"] is False, name
    for each in installed:
        if each["kind"] == "ServiceAccount":
            assert each["automountServiceAccountToken"] is False


def test_every_container_says_what_it_takes_and_when_it_is_well(pods):
    for name, _, _, spec in pods:
        for container in containers(spec):
            wanted, most = (container["resources"][what] for what in ("requests", "limits"))
            for amount in ("cpu", "memory"):
                assert wanted[amount], name
                assert most[amount], name
            once = name.startswith(("Job/", "Pod/"))
            assert once or "livenessProbe" in container, name


def test_images_are_pinned(pods):
    for name, _, _, spec in pods:
        for container in containers(spec):
            image = container["image"]
            assert re.search(r"(:[\w][\w.-]*|@sha256:[0-9a-f]{64})$", image), (name, image)
            assert not image.endswith(":latest"), (name, image)


def test_what_is_written_lies_on_a_volume(pods):
    """The folders that images and servers write to; the rest of their root is read-only."""
    for name, _, labels, spec in pods:
        who = labels["app.kubernetes.io/name"]
        mounted = {m["mountPath"] for c in spec["containers"] for m in c.get("volumeMounts", [])}
        names = {volume["name"] for volume in spec.get("volumes", [])}
        if who not in ("redis", "reach"):
            assert "/tmp" in mounted, name
        claims = {"redis": "/data", "bucket": "/data", "mlflow": "/mlflow"}
        if who in claims:
            assert claims[who] in mounted, name
        used = {m["name"] for c in spec["containers"] for m in c.get("volumeMounts", [])}
        assert names <= used, name
        for volume in spec.get("volumes", []):
            assert "emptyDir" not in volume or "sizeLimit" in volume["emptyDir"], name


def test_the_operator_is_alone_and_replaced_not_doubled(installed):
    (operator,) = (
        each
        for each in installed
        if each["kind"] == "Deployment" and each["metadata"]["name"] == "zeroskew-operator"
    )
    assert operator["spec"]["replicas"] == 1
    assert operator["spec"]["strategy"] == {"type": "Recreate"}
    (container,) = operator["spec"]["template"]["spec"]["containers"]
    assert container["livenessProbe"]["httpGet"] == {"path": "/healthz", "port": "health"}


def test_there_is_no_secret_and_no_value_of_one(installed):
    secret_names = re.compile("SECRET|PASSWORD|TOKEN|ACCESS_KEY", re.IGNORECASE)
    for each in installed:
        assert each["kind"] != "Secret"
        for name, value in each.get("data", {}).items() if each["kind"] == "ConfigMap" else ():
            assert not secret_names.search(name)
            assert "password=" not in value


def test_variables_with_secrets_come_from_secrets(pods):
    for name, _, _, spec in pods:
        for container in containers(spec):
            for entry in container.get("env", []):
                # A path to a file that Kubernetes puts there is none.
                if re.search("(SECRET|PASSWORD|TOKEN|ACCESS_KEY)(?!_PATH)", entry["name"]):
                    assert "secretKeyRef" in entry["valueFrom"], name


def test_the_namespace_itself_asks_for_it(kustomize):
    (space,) = (each for each in kustomize("base") if each["kind"] == "Namespace")
    labels = space["metadata"]["labels"]
    for mode in ("enforce", "audit", "warn"):
        assert labels[f"pod-security.kubernetes.io/{mode}"] == "restricted"


def test_nobody_reads_secrets_through_a_role(installed):
    for each in installed:
        for rule in each.get("rules", []) if each["kind"].endswith("Role") else ():
            assert "secrets" not in rule["resources"]
