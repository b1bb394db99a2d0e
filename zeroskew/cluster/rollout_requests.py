"""Acts that a person asks of a rollout: approve, abort, pause, resume, retry.

Each is an annotation that the operator's machine obeys, written only onto an object that is in a
state in which it means something; else the error says what that state is.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from secrets import token_hex
from typing import Any

from zeroskew.cluster.access import MODEL_ROLLOUT, Cluster
from zeroskew.cluster.annotations import ABORT, APPROVE, PAUSE, RETRY
from zeroskew.cluster.rollout_reading import INFERENCE_SERVICE, RolloutView, view_rollout
from zeroskew.errors import ClusterError
from zeroskew.rollout.rollout_state import CAMEL, Run

__all__ = ["Asked", "abort", "approve", "pause", "resume", "retry", "unique_value"]


@dataclass(frozen=True, slots=True)
class Asked:
    """What was asked for, by which annotation."""

    __pydantic_config__ = CAMEL

    namespace: str
    name: str
    annotation: str
    value: str | None
    """None: it was taken away."""
    message: str


def approve(cluster: Cluster, namespace: str, name: str, version: str | None = None) -> Asked:
    """The version that waits goes on. `version`: refused if another one waits, or none.

    Raises `ClusterError`.
    """

    def decide(view: RolloutView) -> tuple[str, str | None, str]:
        run = _run(view, "nothing waits for an approval")
        if version is not None and version != run.version:
            raise _refused(
                view, f"version {version} does not wait for an approval", f"it is {run.version} "
                "that is under trial",
            )  # fmt: skip
        if run.fallback:
            _check_orphan(cluster, view)
        elif not view.waits_for_approval:
            raise _refused(view, f"version {run.version} does not wait for an approval")
        return APPROVE, run.key, f"version {run.version} is approved"

    return _ask(cluster, namespace, name, decide)


def abort(cluster: Cluster, namespace: str, name: str, version: str | None = None) -> Asked:
    """The version under trial is taken off, and tried again only by `retry` or a changed spec.

    `version`: refused if another one is under trial, or none. Raises `ClusterError`.
    """

    def decide(view: RolloutView) -> tuple[str, str | None, str]:
        run = _run(view, "there is nothing to abort")
        if version is not None and version != run.version:
            raise _refused(view, f"version {version} is not under trial: {run.version} is")
        if view.status.stable is None:
            raise _refused(
                view, f"version {run.version} is the first: there is none to return to",
                "delete the rollout if it should not serve",
            )  # fmt: skip
        if run.failure is not None:
            raise _refused(view, f"version {run.version} is being taken off already")
        if run.promoting:
            raise _refused(
                view, f"version {run.version} has passed its last step and becomes the champion",
                "bring the version before back, in git: zeroskew rollout rollback",
            )  # fmt: skip
        return ABORT, run.key, f"version {run.version} is to be taken off"

    return _ask(cluster, namespace, name, decide)


def pause(cluster: Cluster, namespace: str, name: str) -> Asked:
    """Weights stay as they are until `resume`. Raises `ClusterError`, also if it is paused."""

    def decide(view: RolloutView) -> tuple[str, str | None, str]:
        if view.paused:
            raise _refused(view, "it is paused already", "zeroskew rollout resume ends that")
        text = "paused: weights stay as they are; a version that fails is still taken off"
        return PAUSE, "true", text

    return _ask(cluster, namespace, name, decide)


def resume(cluster: Cluster, namespace: str, name: str) -> Asked:
    """Ends a pause by hand. Raises `ClusterError` if there is none."""

    def decide(view: RolloutView) -> tuple[str, str | None, str]:
        if not view.paused:
            hint = "spec.suspend is set: change that where the manifest is kept"
            raise _refused(view, "nobody has paused it", hint if view.suspended else None)
        text = "the rollout goes on"
        if view.suspended:
            text = "the pause is over, and spec.suspend still holds the rollout"
        return PAUSE, None, text

    return _ask(cluster, namespace, name, decide)


def retry(cluster: Cluster, namespace: str, name: str) -> Asked:
    """A version that was taken off is tried once more. Raises `ClusterError` if none was."""

    def decide(view: RolloutView) -> tuple[str, str | None, str]:
        rejected = view.status.rejected
        if rejected is None or view.status.run is not None or rejected.version != view.wanted:
            raise _refused(view, f"version {view.wanted} was not taken off: nothing is to be tried "
                                 "again")  # fmt: skip
        text = f"version {rejected.version} is tried again"
        if view.paused or view.suspended:
            text += ", once the rollout is not paused any more"
        return RETRY, unique_value(), text

    return _ask(cluster, namespace, name, decide)


def unique_value(now: datetime | None = None) -> str:
    """When it was asked for, and a few digits, so that asking twice is asking for two."""
    moment = now or datetime.now(UTC)
    return f"{moment:%Y-%m-%dT%H:%M:%SZ}-{token_hex(3)}"


def _ask(
    cluster: Cluster,
    namespace: str,
    name: str,
    decide: Callable[[RolloutView], tuple[str, str | None, str]],
) -> Asked:
    made: list[tuple[str, str | None, str]] = []

    def annotations(body: dict[str, Any]) -> Mapping[str, str | None]:
        view = view_rollout(body)
        if view.deleting:
            raise _refused(view, "it is being deleted")
        made[:] = [decide(view)]
        annotation, value, _ = made[0]
        return {annotation: value}

    cluster.annotate(MODEL_ROLLOUT, namespace, name, annotations)
    return Asked(namespace, name, *made[0])


def _run(view: RolloutView, otherwise: str) -> Run:
    if view.status.run is None:
        raise _refused(view, f"no version is under trial: {otherwise}")
    return view.status.run


def _refused(view: RolloutView, what: str, hint: str | None = None) -> ClusterError:
    said = view.status.message or "the operator has not looked at it yet"
    now = f"it is {view.status.phase}: {said}"
    return ClusterError(f"{what}; {now}", where=view.where, mend=hint, code=409)


def _check_orphan(cluster: Cluster, view: RolloutView) -> None:
    """A challenger that answers for a stable version becomes its successor on approval, where that
    is gone for good."""
    stable = view.status.stable
    try:
        cluster.get(INFERENCE_SERVICE.path(view.namespace, f"{view.name}-{stable}"))
    except ClusterError as error:
        if error.code == 404:
            return
        raise
    raise _refused(
        view, f"version {stable} may come back", "an approval makes the other version its "
        f"successor once the InferenceService {view.name}-{stable} is gone",
    )  # fmt: skip
