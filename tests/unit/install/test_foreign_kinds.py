"""Objects of kinds that a cluster may not have are asked for by name, and never come along."""

import re
from pathlib import Path

import kubernetes_validate as schemas
import pytest

ROOT = Path(__file__).parents[3]
MANIFESTS = ROOT / "manifests"
VERSION = "1.37"


def is_built_in(each):
    try:
        schemas.validate(each, VERSION, strict=False)
    except schemas.SchemaNotFoundError:
        return False
    except schemas.ValidationError:
        return True
    return True


def foreign(objects):
    """(group, kind) of objects that neither Kubernetes nor a CRD among them brings."""
    own = {
        (each["spec"]["group"], each["spec"]["names"]["kind"])
        for each in objects
        if each["kind"] == "CustomResourceDefinition"
    }
    kinds = {
        (each["apiVersion"].rpartition("/")[0], each["kind"])
        for each in objects
        if not is_built_in(each)
    }
    return kinds - own


def folders():
    """Everything below manifests/ that can be applied or put into an overlay."""
    found = sorted(MANIFESTS.rglob("kustomization.yaml"))
    return [path.parent.relative_to(MANIFESTS).as_posix() for path in found]


def is_component(folder):
    return "kind: Component" in (MANIFESTS / folder / "kustomization.yaml").read_text()


def described():
    """Text of README.md's rows, by the folder that each is about."""
    rows = re.findall(
        r"^\| `([\w/-]+?)/?` \| (.*) \|$", (MANIFESTS / "README.md").read_text(), re.M
    )
    return dict(rows)


def test_the_first_overlay_needs_nothing_that_is_not_in_it(kustomize):
    assert foreign(kustomize("overlays/embedded")) == set()
    assert foreign(kustomize("models")) == set()


@pytest.mark.parametrize("profile", [None, "embedded"])
def test_nor_does_the_chart_by_default(profile, helm):
    assert foreign(helm(profile, "models.namespaces={team}")) == set()


def test_the_check_sees_a_foreign_kind(kustomize):
    assert foreign(kustomize("overlays/gpu")) == {("ray.io", "RayCluster")}


@pytest.mark.parametrize("folder", folders())
def test_who_needs_more_says_so_where_one_looks(folder, kustomize, overlay):
    """README's row of a folder names the group of every kind that must be there before."""
    made = overlay("base", folder) if is_component(folder) else kustomize(folder)
    needed = foreign(made)
    about = [
        text
        for name, text in described().items()
        if folder == name or folder.startswith(f"{name}/")
    ]
    for group, kind in needed:
        assert any(f"`{group}`" in text for text in about), (
            f"manifests/README.md: the row of `{folder}` must say that it needs `{group}` ({kind})"
        )
