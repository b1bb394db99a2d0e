"""Every error a user of Zeroskew can meet.

    ZeroskewError
    ├── ConfigError            model.yaml, feature definitions, endpoints, command-line values
    ├── DataError              a data file, table or frame is missing, cut short or wrong
    │   └── SchemaError        columns missing, retyped or without a time zone
    ├── ValidationFailed       a batch did not pass its gates (carries the findings)
    ├── FeatureStoreError      the offline or online store refused or cannot be reached
    │   └── OnlineStoreUnavailable
    ├── TrainingError          a search or fit that cannot work or did not converge
    ├── ExportError            a graph that cannot be exported, quantized or built
    │   └── GateFailed         quality or latency outside the limits of model.yaml
    ├── ServingError           a model repository, prediction log or server that cannot work as told
    ├── RegistryError          a model version, alias or transition that is not there
    │   └── AliasConflict      somebody moved the alias since it was read
    ├── DeployError            a git repository that refused a version, or holds what none may touch
    ├── ClusterError           a Kubernetes cluster that cannot be asked, or refuses what was asked
    ├── PipelineError          a pipeline that cannot be compiled, or a step that broke off
    └── EmbeddedError          a child process of the local stack did not start

Catch `ZeroskewError` at the outermost edge (the command line does) and print it: the text
is complete. It names the thing, the place and the mend. Everything else is a defect of ours.
"""

from __future__ import annotations

from typing import Any


class ZeroskewError(Exception):
    """Something the user can mend; the message says what, where and how.

    `reason` is a CamelCase word that fits a Kubernetes condition; `exit_code` is what the
    command line returns.
    """

    exit_code = 1

    def __init__(self, what: str, *, where: str | None = None, mend: str | None = None) -> None:
        self.what, self.where, self.mend = what, where, mend
        text = what if where is None else f"{where}: {what}"
        super().__init__(text if mend is None else f"{text}\n  → {mend}")

    @property
    def reason(self) -> str:
        return type(self).__name__

    def __reduce__(self) -> tuple[Any, ...]:
        # Ray and multiprocessing carry errors between processes; keyword-only arguments
        # would otherwise be lost on the way.
        return (_rebuild, (type(self), self.what, self.where, self.mend, dict(self.__dict__)))


def _rebuild(
    kind: type[ZeroskewError],
    what: str,
    where: str | None,
    mend: str | None,
    state: dict[str, Any],
) -> ZeroskewError:
    error = kind.__new__(kind)
    ZeroskewError.__init__(error, what, where=where, mend=mend)
    error.__dict__.update(state)
    return error


class ConfigError(ZeroskewError):
    """A setting is missing, misspelt or impossible."""

    exit_code = 2


class DataError(ZeroskewError):
    """Data that cannot be read or used."""


class SchemaError(DataError):
    """The columns of a table are not what its definition says."""


class ValidationFailed(ZeroskewError):
    """A batch did not pass its gates; `findings` holds the failed ones."""

    def __init__(
        self,
        what: str,
        *,
        findings: tuple[Any, ...] = (),
        where: str | None = None,
        mend: str | None = None,
    ) -> None:
        super().__init__(what, where=where, mend=mend)
        self.findings = findings


class FeatureStoreError(ZeroskewError):
    """The feature store cannot do what was asked of it."""


class OnlineStoreUnavailable(FeatureStoreError):
    """The online store cannot be reached or stopped answering."""


class TrainingError(ZeroskewError):
    """Training cannot start or did not produce a usable model."""


class ExportError(ZeroskewError):
    """A graph that cannot be exported, quantized or built."""


class GateFailed(ExportError):
    """An exported graph is outside the limits of model.yaml."""


class ServingError(ZeroskewError):
    """The server, its model repository or its prediction log cannot work as configured."""


class RegistryError(ZeroskewError):
    """The model registry does not hold what was asked for."""


class AliasConflict(RegistryError):
    """An alias no longer points where the caller last saw it."""


class DeployError(ZeroskewError):
    """A version cannot be brought into the git repository that the cluster follows."""


class ClusterError(ZeroskewError):
    """A cluster cannot be asked, or does not hold or allow what was asked for.

    `code` is the API server's HTTP status; 0: it did not come to an answer.
    """

    def __init__(
        self, what: str, *, where: str | None = None, mend: str | None = None, code: int = 0
    ) -> None:
        super().__init__(what, where=where, mend=mend)
        self.code = code


class PipelineError(ZeroskewError):
    """A pipeline cannot be compiled, or a step of it ended without an error of its own."""


class EmbeddedError(ZeroskewError):
    """A child process of the local stack did not start or died."""
