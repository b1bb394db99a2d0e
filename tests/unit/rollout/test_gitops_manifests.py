"""The sync tools get what they need of a namespace, and no more."""

from pathlib import Path

import yaml

from zeroskew.rollout.crd import GROUP, KIND, PLURAL
from zeroskew.rollout.manifests import SERVICE_ACCOUNT
from zeroskew.rollout.triton_container import SECRET

FOLDER = Path(__file__).parents[3] / "manifests/gitops"


def documents(folder):
    """By kind, of the files that the folder's kustomization names: all of them."""
    found = {}
    listed = yaml.safe_load((FOLDER / folder / "kustomization.yaml").read_text())["resources"]
    there = {path.name for path in (FOLDER / folder).iterdir()} - {"kustomization.yaml"}
    assert set(listed) == there
    for name in listed:
        for each in yaml.safe_load_all((FOLDER / folder / name).read_text()):
            found.setdefault(each["kind"], []).append(each)
    return found


def test_argo_cd_may_change_rollouts_of_one_namespace_only():
    found = documents("argocd")
    (project,), (apps,) = found["AppProject"], found["ApplicationSet"]
    assert project["spec"]["clusterResourceWhitelist"] == []
    assert project["spec"]["namespaceResourceWhitelist"] == [{"group": GROUP, "kind": KIND}]
    template = apps["spec"]["template"]["spec"]
    assert template["project"] == project["metadata"]["name"]
    assert [template["destination"]] == project["spec"]["destinations"]
    assert [template["source"]["repoURL"]] == project["spec"]["sourceRepos"]
    (generator,) = apps["spec"]["generators"]
    assert generator["git"]["repoURL"] == template["source"]["repoURL"]
    assert generator["git"]["revision"] == template["source"]["targetRevision"]


def test_argo_cd_leaves_the_operator_its_own():
    (apps,) = documents("argocd")["ApplicationSet"]
    template = apps["spec"]["template"]["spec"]
    (ignored,) = template["ignoreDifferences"]
    assert (ignored["group"], ignored["kind"]) == (GROUP, KIND)
    assert set(ignored["jsonPointers"]) == {"/status", "/metadata/finalizers"}
    options = template["syncPolicy"]["syncOptions"]
    assert {"ServerSideApply=true", "RespectIgnoreDifferences=true"} <= set(options)


def test_flux_works_with_the_account_of_the_namespace():
    flux, space = documents("flux"), documents("namespace")
    (sync,), (source,) = flux["Kustomization"], flux["GitRepository"]
    assert sync["spec"]["sourceRef"]["name"] == source["metadata"]["name"]
    (role,), (binding,) = space["Role"], space["RoleBinding"]
    assert binding["subjects"] == [
        {"kind": "ServiceAccount", "name": sync["spec"]["serviceAccountName"]}
    ]
    assert binding["roleRef"]["name"] == role["metadata"]["name"]
    (rule,) = role["rules"]
    assert (rule["apiGroups"], rule["resources"]) == ([GROUP], [PLURAL])
    assert not {"*", "delete", "deletecollection"} & set(rule["verbs"])
    assert sync["spec"]["prune"] is False


def test_the_servers_account_is_the_one_that_templates_name():
    accounts = {each["metadata"]["name"]: each for each in documents("namespace")["ServiceAccount"]}
    serving = accounts[SERVICE_ACCOUNT]
    assert serving["secrets"] == [{"name": SECRET}]
    assert serving["automountServiceAccountToken"] is False
