"""Names and labels that Kubernetes and KServe accept, made from those of models and versions."""

from __future__ import annotations

import re

from zeroskew.errors import ConfigError

PREFIX = "zeroskew.dev/"
LONGEST = 48
"""Of an InferenceService's name: KServe labels its pods `isvc.<name>-predictor`, and a label holds
63 characters."""
LONGEST_WITH_NAMESPACE = 52
"""Of an InferenceService's name and its namespace together: KServe makes
`<name>-predictor-<namespace>` a part of its address, where a part holds 63 characters, also where
it is reached from within the cluster alone. For longer ones it makes no Deployment."""
SHORT_HASH = 16

_MANY_VERSIONS = 99_999
"""A rollout's names are checked for that many versions to come."""

_NAME = re.compile(r"[a-z]([-a-z0-9]*[a-z0-9])?")
_NAMESPACE = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")


def rollout_name(name: str) -> str:
    """A model's or a rollout's name as objects of a cluster carry it: `_` becomes `-`."""
    return name.replace("_", "-")


def service_name(rollout: str, version: int, namespace: str | None = None) -> str:
    """Name of the InferenceService of one version: `<rollout>-<version>`.

    Raises `ConfigError` if that is no name for one, or none for one in this namespace.
    """
    name = f"{rollout_name(rollout)}-{version}"
    if version < 1:
        raise ConfigError(f"{version} is not a version", where="serving", mend="they start at 1")
    if not _NAME.fullmatch(name):
        raise ConfigError(
            f"{name!r} cannot be the name of an InferenceService",
            where="rollout",
            mend="use lower case letters, digits and -, and start with a letter",
        )
    if len(name) > LONGEST:
        raise ConfigError(
            f"{name!r} has {len(name)} characters; an InferenceService's name may have {LONGEST}",
            where="rollout",
            mend="give the rollout a shorter name",
        )
    if namespace is not None and len(name) + len(namespace) > LONGEST_WITH_NAMESPACE:
        raise ConfigError(
            f"{name!r} in the namespace {namespace!r} has {len(name)} + {len(namespace)} "
            f"characters; KServe serves {LONGEST_WITH_NAMESPACE} together at most",
            where="rollout",
            mend="give the rollout a shorter name, or serve in a namespace with a shorter one",
        )
    return name


def check_versions(rollout: str, version: int, namespace: str) -> None:
    """Raises `ConfigError` if this version, or one of many to come, could have no name there."""
    check_namespace(namespace)
    service_name(rollout, version, namespace)
    service_name(rollout, max(version, _MANY_VERSIONS), namespace)


def check_namespace(name: str) -> str:
    """`name`. Raises `ConfigError` if it cannot be a namespace."""
    if not _NAMESPACE.fullmatch(name):
        raise ConfigError(
            f"{name!r} cannot be a namespace",
            where="namespace",
            mend="use at most 63 lower case letters, digits and -",
        )
    return name


def label_value(text: str) -> str:
    """`text` if a label can hold it, else what of it a label can hold."""
    return re.sub(r"[^A-Za-z0-9_.-]", "-", text)[:63].strip("-_.")


def short_hash(digest: str) -> str:
    """The first digits of a hash, without the name of its algorithm: enough to select by."""
    return label_value(digest.rpartition(":")[2][:SHORT_HASH])
