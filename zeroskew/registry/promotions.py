"""The promotion log: who became champion when, why, and instead of whom.

MLflow moves an alias without a trace and without a compare-and-set. It does have one thing that is
written once and by one writer only: a run's parameter. Logging another value under the same key is
refused by the database's primary key, over HTTP as over SQLite. So the log is a run whose
parameters are `000001`, `000002`, …: claiming the next number decides between rivals, an entry
cannot be changed afterwards, and it outlives the versions it speaks of. Aliases and stages follow
from the newest entry; `000002.applied` notes that they do.
"""

from __future__ import annotations

import json
import re
import uuid
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from zeroskew.errors import AliasConflict, RegistryError

if TYPE_CHECKING:
    from mlflow import MlflowClient

MAX_REASON = 2_000
"""Characters of a reason: MLflow cuts parameters of more than 6,000 without a word."""

_KEY = re.compile(r"^\d{6}$")


@dataclass(frozen=True, slots=True)
class Promotion:
    """One entry of the log."""

    number: int
    action: str
    """`promote`, `rollback`, or `found`: the alias had been moved without this library."""
    version: int | None
    """Champion from here on."""
    replaced: int | None
    """Champion until then."""
    reason: str
    at: str
    """ISO 8601, UTC."""
    by: str
    identity: str = ""
    """Record hash of `version`, which outlives the version itself."""
    id: str = ""
    """Tells two writers' entries apart even where everything else is equal."""


class PromotionLog:
    """The log of one model, kept in the run `run_id`."""

    def __init__(self, client: MlflowClient, run_id: str, model: str) -> None:
        self._client, self._run_id, self._model = client, run_id, model

    def read(self) -> tuple[list[Promotion], bool]:
        """All entries, oldest first, and whether aliases and stages follow the newest.

        Raises `RegistryError` if the run is gone or an entry is missing or unreadable.
        """
        from mlflow.exceptions import MlflowException

        where = f"promotion log of {self._model}"
        try:
            params = self._client.get_run(self._run_id).data.params
        except MlflowException as error:
            if error.error_code != "RESOURCE_DOES_NOT_EXIST":
                raise
            raise RegistryError(f"run {self._run_id} is gone", where=where) from error
        entries: list[Promotion] = []
        for key in sorted(key for key in params if _KEY.match(key)):
            try:
                entry = Promotion(**json.loads(params[key]))
            except (ValueError, TypeError):
                raise RegistryError(f"entry {key} cannot be read", where=where) from None
            if entry.number != int(key) or entry.number != len(entries) + 1:
                raise RegistryError(f"entry {len(entries) + 1:06d} is missing", where=where)
            entries.append(entry)
        return entries, not entries or f"{len(entries):06d}.applied" in params

    def claim(
        self,
        after: Sequence[Promotion],
        *,
        action: str,
        version: int | None,
        replaced: int | None,
        reason: str,
        by: str,
        identity: str,
    ) -> Promotion:
        """Append an entry behind `after`, or raise `AliasConflict` if somebody else did."""
        entry = Promotion(
            number=len(after) + 1,
            action=action,
            version=version,
            replaced=replaced,
            reason=reason,
            at=datetime.now(UTC).isoformat(timespec="seconds"),
            by=by,
            identity=identity,
            id=uuid.uuid4().hex,
        )
        from mlflow.exceptions import MlflowException

        refused = False
        try:
            self._client.log_param(self._run_id, f"{entry.number:06d}", json.dumps(asdict(entry)))
        except MlflowException as error:
            if error.error_code != "INVALID_PARAMETER_VALUE":
                raise
            refused = True
        entries, _ = self.read()
        if refused or len(entries) < entry.number or entries[entry.number - 1].id != entry.id:
            winner = entries[entry.number - 1] if len(entries) >= entry.number else None
            what = f"version {winner.version} by {winner.by}" if winner else "another change"
            raise AliasConflict(
                f"somebody changed the champion at the same time: {what}",
                where=self._model,
                mend="look at `zeroskew registry history` and decide again",
            )
        return entry

    def applied(self, entry: Promotion) -> None:
        """Note that aliases and stages follow `entry`."""
        self._client.log_param(self._run_id, f"{entry.number:06d}.applied", "true")


def champions(entries: Sequence[Promotion]) -> list[int]:
    """The stack of champions, the present one last: a promotion pushes, a rollback pops."""
    stack: list[int] = []
    for entry in entries:
        if entry.action == "rollback" and entry.version in stack[:-1]:
            stack.pop()
            while stack[-1] != entry.version:
                stack.pop()
        elif entry.version is not None:
            stack.append(entry.version)
    return stack


def before(stack: Sequence[int], exists: set[int]) -> int | None:
    """The newest champion below the present one that is another version and still there."""
    for version in reversed(stack[:-1]):
        if version != stack[-1] and version in exists:
            return version
    return None
