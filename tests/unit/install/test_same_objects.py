"""Helm and kustomize install the same."""

import pytest


def keyed(objects):
    found = {}
    for each in objects:
        meta = each["metadata"]
        key = (each["kind"], meta.get("namespace", ""), meta["name"])
        assert key not in found, f"twice: {key}"
        found[key] = each
    return found


def by_helm(objects):
    """Without Helm's own: its tests, and the hint to keep a CRD."""
    for each in objects:
        notes = each["metadata"].get("annotations", {})
        if notes.get("helm.sh/hook") == "test":
            continue
        if each["kind"] == "CustomResourceDefinition":
            assert notes.pop("helm.sh/resource-policy") == "keep"
            del each["metadata"]["annotations"]
        yield each


@pytest.mark.parametrize("profile", ["embedded", "gpu", "kubeflow"])
def test_a_profile_is_its_overlay(profile, kustomize, helm):
    wanted = keyed(kustomize(f"overlays/{profile}"))
    # Helm makes the namespace itself (`--create-namespace`) and cannot own it.
    del wanted["Namespace", "", "zeroskew"]
    assert keyed(by_helm(helm(profile))) == wanted


@pytest.mark.parametrize(
    ("profile", "folder"),
    [
        ("embedded", "models"),
        ("gpu", "overlays/gpu/models"),
        ("kubeflow", "overlays/kubeflow/models"),
    ],
)
def test_a_namespace_of_models_is_the_folder_for_it(profile, folder, kustomize, helm):
    wanted = keyed(kustomize(folder))
    objects = keyed(helm(profile, "models.namespaces={team,other}"))
    for space in ("team", "other"):
        made = {(k, "", n): v for (k, s, n), v in objects.items() if s == space}
        assert {key[0::2] for key in made} == {key[0::2] for key in wanted}
        for key, each in made.items():
            assert each["metadata"].pop("namespace") == space
            assert each == wanted[key]


def test_ray_on_one_node_is_the_component_of_it(helm, overlay):
    wanted = keyed(overlay("overlays/embedded", "components/raycluster-one-node"))
    del wanted["Namespace", "", "zeroskew"]
    assert keyed(by_helm(helm("embedded", "raycluster.enabled=true"))) == wanted


def test_prometheus_gets_the_component_of_it(helm, overlay):
    kinds = {"PrometheusRule", "ServiceMonitor", "PodMonitor", "ConfigMap"}
    wanted = {
        key: each
        for key, each in keyed(overlay("base", "components/prometheus")).items()
        if key[0] in kinds and key[2] != "zeroskew-endpoints"
    }
    plain, made = (keyed(by_helm(helm(None, *more))) for more in ((), ("prometheus.enabled=true",)))
    assert {key: each for key, each in made.items() if key not in plain} == wanted
    assert len(wanted) == 4


def test_the_storage_initializer_gets_the_component_of_it(helm, kustomize):
    folder = "components/restricted-storage-initializer"
    (wanted,) = kustomize(folder)
    made = keyed(helm(None, "kserve.restrictedStorageInitializer=true"))
    found = made["ClusterStorageContainer", "", "default"]
    assert found["metadata"].pop("annotations") == {"helm.sh/resource-policy": "keep"}
    assert found == wanted


@pytest.mark.parametrize("first", ["namespaced-operator", "notifications"])
def test_components_of_the_operator_go_together(first, overlay):
    both = ["namespaced-operator", "notifications"]
    made = keyed(overlay("base", *(f"components/{n}" for n in sorted(both, key=first.__ne__))))
    pod = made["Deployment", "zeroskew", "zeroskew-operator"]["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    told = {entry["name"]: entry.get("value") for entry in container["env"]}
    assert told["ZEROSKEW_NAMESPACES"] == "models"
    mounted = {each["name"]: each["mountPath"] for each in container["volumeMounts"]}
    file = told["ZEROSKEW_NOTIFICATIONS"]
    assert file.startswith(mounted["notifications"] + "/")
    settings = made["ConfigMap", "zeroskew", "zeroskew-notifications"]["data"]
    assert file.rpartition("/")[2] in settings
    assert ("ClusterRoleBinding", "", "zeroskew-operator") not in made


def test_notifications_get_the_component_of_them(helm, overlay):
    from zeroskew.notifications import parse_notifications

    said = "operator.notifications.destinations[0]"
    made = keyed(
        helm(
            None,
            f"{said}.name=team",
            f"{said}.url_from.file=/var/run/secrets/x",
            f"{said}.type=slack",
        )
    )
    key = "Deployment", "zeroskew", "zeroskew-operator"
    wanted = keyed(overlay("base", "components/notifications"))[key]
    for pod in (made[key]["spec"]["template"]["spec"], wanted["spec"]["template"]["spec"]):
        pod["volumes"].sort(key=lambda each: each["name"])
        for field in ("env", "volumeMounts"):
            pod["containers"][0][field].sort(key=lambda each: each["name"])
    assert made[key] == wanted
    settings = made["ConfigMap", "zeroskew", "zeroskew-notifications"]["data"]
    (found,) = parse_notifications(settings["notifications.yaml"]).destinations
    assert (found.name, found.type) == ("team", "slack")
    assert ("ConfigMap", "zeroskew", "zeroskew-notifications") not in keyed(helm(None))


def test_an_operator_for_some_namespaces_is_the_component_for_it(kustomize, helm, tmp_path):
    objects = keyed(helm(None, "operator.namespaces={team,other}"))
    assert ("ClusterRoleBinding", "", "zeroskew-operator") not in objects
    assert ("ClusterRoleBinding", "", "zeroskew-operator-gateways") in objects
    for space in ("team", "other"):
        bound = objects["RoleBinding", space, "zeroskew-operator"]
        assert bound["subjects"] == [
            {"kind": "ServiceAccount", "name": "zeroskew-operator", "namespace": "zeroskew"}
        ]
    container = objects["Deployment", "zeroskew", "zeroskew-operator"]["spec"]["template"]["spec"]
    told = {entry["name"]: entry.get("value") for entry in container["containers"][0]["env"]}
    assert told["ZEROSKEW_NAMESPACES"] == "team,other"


@pytest.mark.parametrize("part", ["redis", "mlflow", "bucket", "raycluster", "operator"])
def test_a_part_switched_off_leaves_nothing_behind(part, helm):
    own = {
        "redis": "endpoints.ZEROSKEW_REDIS=redis.example:6380",
        "mlflow": "endpoints.ZEROSKEW_MLFLOW=https://mlflow.example",
        "bucket": "endpoints.AWS_ENDPOINT_URL=",
    }
    settings = [f"{part}.enabled=false", *([own[part]] if part in own else [])]
    kept, all_of_it = keyed(helm("gpu", *settings)), keyed(helm("gpu"))
    gone = set(all_of_it) - set(kept)
    word = {"raycluster": "ray"}.get(part, part)
    assert gone
    for key in gone:
        labels = all_of_it[key]["metadata"]["labels"]
        assert labels["app.kubernetes.io/name"] in (word, "make-buckets")
    assert not [
        key
        for key, each in kept.items()
        if each["metadata"]["labels"].get("app.kubernetes.io/name") == word
    ]
    if part in own:
        key, _, value = own[part].removeprefix("endpoints.").partition("=")
        assert kept["ConfigMap", "zeroskew", "zeroskew-endpoints"]["data"][key] == value


def test_another_namespace_is_in_every_name(run_tool):
    made = run_tool("helm", "template", "z", "charts/zeroskew", "-n", "ml").stdout
    assert "mlflow.ml.svc:5000" in made
    assert "zeroskew.svc" not in made
    assert "namespace: zeroskew\n" not in made
