"""Everything that manifests/ and the chart install, applied server-side to a real control plane.

The server must refuse nothing and warn of nothing; namespaces enforce `restricted`; the pods that
its controllers make of it are admitted, and scheduled on kwok's nodes, where they are ready without
a container. Then all of it is taken away again.
"""

import json
import os
import runpy
import subprocess
from pathlib import Path

import pytest
import yaml
from server_programs import absent, built

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(600)]
ROOT = Path(__file__).parents[2]
CONFTEST = runpy.run_path(str(Path(__file__).with_name("conftest.py")))
pods_of = runpy.run_path(str(ROOT / "tests/unit/install/conftest.py"))["pods_of"]
PROFILES = ("embedded", "gpu", "kubeflow")
CRDS = (
    "argocd-application-sets.yaml",
    "argocd-projects.yaml",
    "flux-kustomizations.yaml",
    "flux-sources.yaml",
    "istio.yaml",
    "kserve-storage-containers.yaml",
    "prometheus-pod-monitors.yaml",
    "prometheus-rules.yaml",
    "prometheus-service-monitors.yaml",
    "ray.yaml",
)
NO_CRD = {"PodDefault": "Kubeflow's admission webhook cannot be fetched as a Go module"}
"""Kinds that cannot be tried here, and why."""
LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


@pytest.fixture(scope="session")
def platform(control_plane):
    """The control plane with every CRD that an installation may use, and disks."""
    if reason := absent(*CRDS, "kserve-storage-container.yaml"):
        CONFTEST["missing"](reason)
    folder = CONFTEST["crd_folder"]()
    texts = [built(name).read_text() for name in CRDS]
    texts += [(folder / name).read_text() for name in ("kserve.yaml", "gateway-api.yaml")]
    documents = [each for text in texts for each in yaml.load_all(text, Loader=LOADER) if each]
    control_plane.install(
        [each for each in documents if each["kind"] == "CustomResourceDefinition"]
    )
    return control_plane


@pytest.fixture
def disks(platform):
    """For the claims, as a storage class' provisioner makes them."""
    name = f"disk-{os.urandom(3).hex()}"
    volumes = [
        {
            "apiVersion": "v1", "kind": "PersistentVolume",
            "metadata": {"name": f"{name}-{number}"},
            "spec": {"capacity": {"storage": "2Ti"}, "accessModes": ["ReadWriteOnce"],
                     "hostPath": {"path": "/none"}},
        }
        for number in range(4)
    ]  # fmt: skip
    apply(platform, volumes)
    yield
    platform.kubectl("delete", "pv", *(each["metadata"]["name"] for each in volumes))


@pytest.fixture
def team(platform):
    """A namespace of models that enforces `restricted`."""
    name = f"team-{os.urandom(3).hex()}"
    labels = {f"pod-security.kubernetes.io/{mode}": "restricted" for mode in ("enforce", "warn")}
    apply(
        platform,
        [{"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}}],
    )
    return name


def rendered(platform, folder):
    done = subprocess.run(
        [platform.kubectl_path, "kustomize", folder], capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    assert not done.stderr, done.stderr
    return possible(done.stdout)


def templated(profile, *settings):
    helm = Path(
        os.environ.get("ZEROSKEW_KUBE_TOOLS")
        or Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "zeroskew/kube-tools"
    ) / "bin/helm"  # fmt: skip
    if not helm.is_file():
        pytest.skip(f"no {helm}: run scripts/install_kube_tools.sh")
    done = subprocess.run(
        [helm, "template", "z", ROOT / "charts/zeroskew", "-n", "zeroskew",
         "-f", ROOT / f"charts/zeroskew/profiles/{profile}.yaml",
         *(part for each in settings for part in ("--set", each))],
        capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return possible(done.stdout)


def possible(text):
    documents = [each for each in yaml.load_all(text, Loader=LOADER) if each]
    return [each for each in documents if each["kind"] not in NO_CRD]


def stream(objects):
    # No List: kubectl would check that by itself, instead of asking the server.
    return "\n---\n".join(map(json.dumps, objects))


def apply(platform, objects, *more):
    done = platform.kubectl(
        "apply", "--server-side", "--warnings-as-errors", *more, "-f", "-",
        input=stream(objects), check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert not done.stderr, done.stderr


def stand(platform):
    """Every workload of `zeroskew` is there, with pods that were admitted, scheduled and ready."""
    spaced = ("-n", "zeroskew", "--timeout=120s")
    kinds = ("deployment", "statefulset", "job")
    found = platform.get(",".join(kinds), "-n", "zeroskew")["items"]
    assert len(found) >= 5
    for each in found:
        name = f"{each['kind'].lower()}/{each['metadata']['name']}"
        if each["kind"] == "Job":
            command = ("wait", "--for=condition=complete", name, *spaced)
        else:
            command = ("rollout", "status", name, *spaced)
        done = platform.kubectl(*command, check=False)
        if done.returncode:
            said = platform.kubectl("get", "events", "-n", "zeroskew").stdout
            raise AssertionError(f"{name}: {done.stderr}{said}")


def taken_away(platform, objects):
    """With everything that controllers made of it; CRDs stay."""
    going = [each for each in objects if each["kind"] != "CustomResourceDefinition"]
    text = stream(going)
    platform.kubectl(
        "delete", "--wait", "--timeout=110s", "--ignore-not-found", "-f", "-", input=text
    )
    platform.kubectl(
        "delete", "namespace", "zeroskew", "--wait", "--timeout=110s", "--ignore-not-found"
    )


def stored(platform, objects):
    """What the server holds of them, in their order."""
    text = stream(objects)
    return json.loads(platform.kubectl("get", "-f", "-", "-o", "json", input=text).stdout)["items"]


def contains(found, sent):
    """Whether everything that was sent is in what the server holds."""
    if isinstance(sent, dict):
        # The server leaves out what is empty.
        return isinstance(found, dict) and all(
            contains(found[name], value) if name in found else not value
            for name, value in sent.items()
        )
    if isinstance(sent, list):
        return len(found) == len(sent) and all(map(contains, found, sent))
    return str(found) == str(sent)


def assert_stored(platform, objects):
    known = stored(platform, objects)
    assert len(known) == len(objects)
    for sent, found in zip(objects, known, strict=True):
        name = f"{sent['kind']} {sent['metadata']['name']}"
        assert contains(found["metadata"], sent["metadata"]), name
        for part in set(sent) - {"metadata", "status", "apiVersion", "kind"}:
            assert contains(found.get(part), sent[part]), f"{name}: {part}"


@pytest.mark.slow
@pytest.mark.parametrize("profile", PROFILES)
def test_an_overlay_is_taken_stands_and_goes(platform, disks, profile):
    objects = rendered(platform, ROOT / f"manifests/overlays/{profile}")
    apply(platform, objects)
    try:
        assert_stored(platform, objects)
        stand(platform)
        apply(platform, objects)
    finally:
        taken_away(platform, objects)


@pytest.mark.slow
@pytest.mark.parametrize("profile", PROFILES)
def test_the_chart_is_taken_stands_and_goes(platform, disks, team, profile):
    objects = templated(profile, f"models.namespaces={{{team}}}", "prometheus.enabled=true")
    hooks = [each for each in objects if "helm.sh/hook" in each["metadata"].get("annotations", {})]
    space = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "zeroskew", "labels": {
        "pod-security.kubernetes.io/enforce": "restricted"}}}  # fmt: skip
    objects = [space, *(each for each in objects if each not in hooks)]
    apply(platform, objects)
    try:
        apply(platform, hooks)
        stand(platform)
    finally:
        taken_away(platform, [*objects, *hooks])


def kustomizations(kind):
    for path in sorted((ROOT / "manifests").rglob("kustomization.yaml")):
        if yaml.safe_load(path.read_text())["kind"] == kind:
            yield path.parent.relative_to(ROOT / "manifests").as_posix()


# The overlays have a test of their own; a base is in each of them.
FOR_A_NAMESPACE = [
    each
    for each in kustomizations("Kustomization")
    if each not in ("base", "crds", *(f"overlays/{profile}" for profile in PROFILES))
]


@pytest.mark.parametrize("folder", FOR_A_NAMESPACE)
def test_what_a_namespace_needs_is_taken(platform, team, folder):
    objects = rendered(platform, ROOT / "manifests" / folder)
    spaces = {each["metadata"].get("namespace") for each in objects} - {None}
    for name in spaces:
        space = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}
        apply(platform, [space])
    plain = [each for each in objects if "namespace" not in each["metadata"]]
    for some, where in (([e for e in objects if e not in plain], ()), (plain, ("-n", team))):
        if some:
            apply(platform, some, *where)


def composed(folder, *components):
    """An overlay over the base, in `folder`, as a user writes one."""
    where = os.path.relpath(ROOT / "manifests", folder)
    (folder / "kustomization.yaml").write_text(
        "apiVersion: kustomize.config.k8s.io/v1beta1\nkind: Kustomization\nnamespace: zeroskew\n"
        f"resources: [{where}/base]\n"
        f"components: [{', '.join(f'{where}/{each}' for each in components)}]\n"
    )
    return folder


OVER_KSERVE = "components/restricted-storage-initializer"


@pytest.mark.parametrize("component", [c for c in kustomizations("Component") if c != OVER_KSERVE])
def test_a_component_over_the_base_is_taken(platform, component, tmp_path):
    objects = rendered(platform, composed(tmp_path, component))
    apply(platform, objects)
    taken_away(platform, objects)


def test_the_storage_initializer_is_restricted_over_kserves_own(platform):
    """By a field manager of its own: as the one that KServe was installed by, it would take the
    fields away that it does not name."""
    kserves = built("kserve-storage-container.yaml")
    platform.kubectl("apply", "--server-side", "-f", kserves)
    objects = rendered(platform, ROOT / "manifests" / OVER_KSERVE)
    text = (ROOT / "manifests" / OVER_KSERVE / "kustomization.yaml").read_text()
    assert "--field-manager zeroskew" in text
    apply(platform, objects, "--field-manager", "zeroskew")
    found = platform.get("clusterstoragecontainer", "default")["spec"]
    sent = yaml.safe_load(kserves.read_text())["spec"]
    context = found["container"].pop("securityContext")
    assert context["allowPrivilegeEscalation"] is False
    assert found == sent


def with_claims(spec):
    """A StatefulSet's volumes are not all in its pods' template."""
    named = {each["name"] for each in spec.get("volumes", ())}
    mounts = (m for each in spec["containers"] for m in each.get("volumeMounts", ()))
    missing = sorted({each["name"] for each in mounts} - named)
    return [*spec.get("volumes", ()), *({"name": name, "emptyDir": {}} for name in missing)]


def test_every_pod_is_admitted_where_restricted_is_enforced(platform, team):
    """Those of kinds whose controllers are not here too, such as RayCluster."""
    seen = 0
    for profile in PROFILES:
        for name, _, labels, spec in pods_of(
            rendered(platform, ROOT / f"manifests/overlays/{profile}")
        ):
            pod = {"apiVersion": "v1", "kind": "Pod", "spec": dict(spec),
                   "metadata": {"name": "pod", "namespace": team, "labels": labels}}  # fmt: skip
            # An account and claims that are elsewhere.
            pod["spec"].pop("serviceAccountName", None)
            pod["spec"]["volumes"] = with_claims(spec)
            done = platform.kubectl(
                "create", "--dry-run=server", "--warnings-as-errors", "-f", "-",
                input=json.dumps(pod), check=False,
            )  # fmt: skip
            assert done.returncode == 0, f"{name}: {done.stderr}"
            seen += 1
    assert seen >= 15
    pod["spec"]["containers"][0].pop("securityContext")
    refused = platform.kubectl(
        "create", "--dry-run=server", "-f", "-", input=json.dumps(pod), check=False
    )
    assert 'violates PodSecurity "restricted' in refused.stderr
