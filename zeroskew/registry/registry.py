"""The half of the registry that writes: register, promote, roll back, move aliases."""

from __future__ import annotations

import getpass
import hashlib
import socket
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from zeroskew.errors import AliasConflict, ConfigError, RegistryError
from zeroskew.record import VersionRecord
from zeroskew.registry import files as version_files
from zeroskew.registry.promotions import MAX_REASON, Promotion, PromotionLog, before, champions
from zeroskew.registry.publish import publish
from zeroskew.registry.reading import RegistryReader, talks
from zeroskew.registry.versions import (
    ANY,
    ARCHIVED,
    CHALLENGER,
    CHAMPION,
    FILES_SHA256,
    IDENTITY,
    OWN_TAGS,
    PREVIOUS,
    PRODUCTION,
    PROMOTIONS,
    STAGE,
    Expected,
    ModelVersion,
    check_alias,
)


class Registry(RegistryReader):
    """Model versions in MLflow, with lineage, lifecycle, promotion history and rollback.

    Every method raises `RegistryError` if the store cannot be reached, read or written, and for a
    model, version or alias that is not there (the message lists what is). Methods that write may
    be killed at any moment and called again: they complete what was begun and do nothing twice.
    """

    @talks
    def register(
        self,
        name: str,
        record: VersionRecord,
        files: Mapping[str, str | Path],
        *,
        params: Mapping[str, Any] | None = None,
        on_progress: version_files.Progress | None = None,
    ) -> int:
        """Make a version of a record and its files (name in the version → file or folder).

        It appears at once with tags, stage `Staging` and all files in place, or not at all. The
        same record with the same files again is the same version. `params` go to the run.

        Raises `DataError` if a file is missing or a pickle.
        """
        if record.model != name:
            raise RegistryError(f"the record is of {record.model!r}", where=f"model {name}")
        sources = version_files.collect({key: Path(path) for key, path in files.items()})
        listed = version_files.list_files(sources, record.to_json())
        identity = hashlib.sha256(f"{record.identity} {listed.sha256}".encode()).hexdigest()
        self._model_with_log(name)
        if (known := self._by_identity(name, identity)) is not None:
            return known
        run_id = publish(self.backend, record, identity, listed, sources, params or {}, on_progress)
        with self.backend.locked():
            if (known := self._by_identity(name, identity)) is not None:
                return known
            tags = record.to_tags() | {
                IDENTITY: identity,
                FILES_SHA256: listed.sha256,
                STAGE: "Staging",
                "complete": "true",
            }
            client = self.backend.client
            source = client.get_run(run_id).info.artifact_uri
            made = client.create_model_version(name, source, run_id, tags=tags)
            number = int(made.version)
            # Against a server two writers may both get here: the older version stays.
            first = self._by_identity(name, identity)
            if first is not None and first < number:
                client.delete_model_version(name, str(number))
                return first
            return number

    @talks
    def set_alias(
        self, name: str, alias: str, version: int | None, *, expected: Expected = ANY
    ) -> None:
        """Point an alias to a version, or remove it (`version=None`).

        `expected` is the version it must point to until then (None: nowhere). The embedded
        registry compares and sets under its lock. MLflow has no such operation over HTTP: there
        the alias is read before and after the write, so a rival within those milliseconds is
        noticed by the one who lost, not prevented.

        Raises `AliasConflict` if it points elsewhere; `RegistryError` for `champion` and
        `previous`, which only `promote` and `rollback` move.
        """
        if check_alias(alias) in (CHAMPION, PREVIOUS):
            raise RegistryError(
                f"`{alias}` is not set by hand: its history would have a hole",
                where=f"model {name}",
                mend="use promote or rollback",
            )
        with self.backend.locked():
            if version is not None:
                found = self._usable(name, version)
                if alias == CHALLENGER and CHAMPION in found.aliases:
                    raise RegistryError(
                        f"version {version} is the champion: it has nobody to challenge",
                        where=f"model {name}",
                    )
            now = self.aliases(name).get(alias)
            if now == version:
                return
            if expected is not ANY and now != expected:
                raise _conflict(name, alias, now, expected)
            self._point(name, alias, version)
            if (after := self.aliases(name).get(alias)) != version:
                raise _conflict(name, alias, after, version)

    @talks
    def archive(self, name: str, version: int) -> None:
        """Set a version aside: stage `Archived`, and no longer the challenger.

        Raises `RegistryError` for the champion.
        """
        with self.backend.locked():
            found = self._usable(name, version)
            if CHAMPION in found.aliases:
                raise RegistryError(
                    f"version {version} is the champion",
                    where=f"model {name}",
                    mend="promote another version or roll back first",
                )
            if CHALLENGER in found.aliases:
                self._point(name, CHALLENGER, None)
            self._set_stage(found, ARCHIVED)

    @talks
    def note(self, name: str, version: int, notes: Mapping[str, str]) -> None:
        """Add to a version what came later (its route, say): tags that the lineage shows.

        Raises `RegistryError` for a tag of the record or of the lifecycle: those are not notes.
        """
        found = self._usable(name, version)
        own = OWN_TAGS | set(VersionRecord.__slots__)
        for key in notes:
            if key.partition(".")[0] in own:
                raise RegistryError(
                    f"`{key}` belongs to the version's record", where=f"{name} version {version}"
                )
        for key, value in notes.items():
            if found.tags.get(key) != value:
                self.backend.upsert(
                    self.backend.client.set_model_version_tag, name, str(version), key, value
                )

    @talks
    def promote(
        self, name: str, version: int, reason: str, *, expected_champion: Expected = ANY
    ) -> Promotion:
        """Make `version` the champion; the old one becomes `previous` and is archived.

        Rivals are decided by the promotion log's next entry, which only one writer can take (see
        `promotions`); then aliases and stages follow it. If that was broken off, the next call of
        promote, rollback or settle completes it. A version that is champion already stays, and
        its entry is returned.

        Raises `AliasConflict` if the champion is not `expected_champion` (None: there is none) or
        somebody else moved it meanwhile.
        """
        reason = _checked_reason(reason)
        with self.backend.locked():
            found = self._usable(name, version)
            log, entries = self._settled(name)
            now = self.aliases(name).get(CHAMPION)
            if now == version:
                return entries[-1]
            if expected_champion is not ANY and now != expected_champion:
                raise _conflict(name, CHAMPION, now, expected_champion)
            return self._enter(name, log, entries, "promote", found, now, reason)

    @talks
    def rollback(self, name: str, reason: str, *, expected_champion: Expected = ANY) -> Promotion:
        """Bring the previous champion back; again for the one before it, as the log knows them.

        With `expected_champion` (the version to roll back *from*) the call may be repeated: once
        that version was rolled back, the entry which did it is returned.

        Raises `RegistryError` if there is nothing to go back to, `AliasConflict` as `promote`.
        """
        reason = _checked_reason(reason)
        with self.backend.locked():
            pending = self._pending(name)
            log, entries = self._settled(name)
            now = self.aliases(name).get(CHAMPION)
            last = entries[-1] if entries else None
            if last is not None and last.action == "rollback":
                repeated = expected_champion is not ANY and last.replaced == expected_champion
                if pending or (repeated and now == last.version):
                    return last
            if expected_champion is not ANY and now != expected_champion:
                raise _conflict(name, CHAMPION, now, expected_champion)
            there = {v.version for v in self.versions(name) if v.complete}
            target = None if now is None else before(champions(entries), there)
            if target is None:
                raise RegistryError(
                    "there is no earlier champion to go back to",
                    where=f"model {name}",
                    mend="promote a version: `zeroskew registry list` shows them",
                )
            found = self._usable(name, target)
            return self._enter(name, log, entries, "rollback", found, now, reason)

    @talks
    def settle(self, name: str) -> None:
        """Complete a promotion or rollback that was broken off; else do nothing."""
        with self.backend.locked():
            self._settled(name)

    def _usable(self, name: str, version: int) -> ModelVersion:
        found = self.version(name, version)
        if not found.complete:
            raise RegistryError(
                f"version {version} was not registered by zeroskew: its files are unknown",
                where=f"model {name}",
                mend="register the model through a training pipeline",
            )
        return found

    def _by_identity(self, name: str, identity: str) -> int | None:
        found = self.backend.client.search_model_versions(
            f"name='{name}' AND tags.`{IDENTITY}` = '{identity}'"
        )
        return min((int(version.version) for version in found), default=None)

    def _model_with_log(self, name: str) -> str:
        """The promotion log's run, made together with the registered model if need be."""
        from mlflow.exceptions import MlflowException

        from zeroskew.registry.publish import log_run

        found = self._find(name)
        if found is not None and PROMOTIONS in found.tags:
            return str(found.tags[PROMOTIONS])
        with self.backend.locked():
            client = self.backend.client
            run_id = log_run(self.backend, name)
            if found is None:
                # The name is unique: of two writers one brings its log, the other takes that.
                try:
                    client.create_registered_model(name, tags={PROMOTIONS: run_id})
                except MlflowException as error:
                    if error.error_code != "RESOURCE_ALREADY_EXISTS":
                        raise
            if PROMOTIONS not in self._model(name).tags:
                client.set_registered_model_tag(name, PROMOTIONS, run_id)
            chosen = str(self._model(name).tags[PROMOTIONS])
            if chosen != run_id:
                client.delete_run(run_id)
            return chosen

    def _pending(self, name: str) -> bool:
        run_id = self._model(name).tags.get(PROMOTIONS)
        return bool(run_id) and not PromotionLog(self.backend.client, run_id, name).read()[1]

    def _settled(self, name: str) -> tuple[PromotionLog, list[Promotion]]:
        """The log, with aliases and stages as its newest entry says.

        If all had been applied and the alias points elsewhere all the same, somebody used another
        tool: that becomes an entry, too, so that the log tells the whole story.
        """
        self._model(name)
        log = PromotionLog(self.backend.client, self._model_with_log(name), name)
        entries, applied = log.read()
        if not applied:
            self._follow(name, log, entries)
            return log, entries
        now = self.aliases(name).get(CHAMPION)
        if now != (entries[-1].version if entries else None):
            entries.append(
                log.claim(
                    entries,
                    action="found",
                    version=now,
                    replaced=entries[-1].version if entries else None,
                    reason="the alias had been moved without zeroskew",
                    by="unknown",
                    identity="" if now is None else self.version(name, now).tags.get(IDENTITY, ""),
                )
            )
            self._follow(name, log, entries)
        return log, entries

    def _enter(
        self,
        name: str,
        log: PromotionLog,
        entries: list[Promotion],
        action: str,
        found: ModelVersion,
        replaced: int | None,
        reason: str,
    ) -> Promotion:
        entry = log.claim(
            entries,
            action=action,
            version=found.version,
            replaced=replaced,
            reason=reason,
            by=_who(),
            identity=found.tags.get(IDENTITY, ""),
        )
        self._follow(name, log, [*entries, entry])
        return entry

    def _follow(self, name: str, log: PromotionLog, entries: list[Promotion]) -> None:
        """Make aliases and stages what the newest entry says, whatever they are."""
        entry = entries[-1]
        versions = {version.version: version for version in self.versions(name)}
        champion = entry.version if entry.version in versions else None
        stack = champions(entries)
        previous = before(stack, set(versions)) if champion is not None else None
        self._point(name, PREVIOUS, previous)
        if champion is not None:
            self._set_stage(versions[champion], PRODUCTION)
        self._point(name, CHAMPION, champion)
        if champion is not None and CHALLENGER in versions[champion].aliases:
            self._point(name, CHALLENGER, None)
        for version in versions.values():
            if version.version != champion and (
                version.stage == PRODUCTION or version.version == entry.replaced
            ):
                self._set_stage(version, ARCHIVED)
        newest, _ = log.read()
        if len(newest) > len(entries):
            # Somebody completed this entry and went on; what was written here may be older.
            self._follow(name, log, newest)
            return
        log.applied(entry)

    def _point(self, name: str, alias: str, version: int | None) -> None:
        now = self.aliases(name).get(alias)
        if version is None and now is not None:
            self.backend.client.delete_registered_model_alias(name, alias)
        elif version is not None and now != version:
            self.backend.upsert(
                self.backend.client.set_registered_model_alias, name, alias, str(version)
            )

    def _set_stage(self, found: ModelVersion, stage: str) -> None:
        if found.stage != stage:
            client = self.backend.client
            self.backend.upsert(
                client.set_model_version_tag, found.name, str(found.version), STAGE, stage
            )


def _conflict(name: str, alias: str, now: int | None, expected: Expected) -> AliasConflict:
    def words(version: Expected) -> str:
        return "nothing" if version is None else f"version {version}"

    return AliasConflict(
        f"`{alias}` points to {words(now)}, not to {words(expected)}",
        where=f"model {name}",
        mend="somebody moved it; look at `zeroskew registry history` and decide again",
    )


def _checked_reason(reason: str) -> str:
    if not reason.strip():
        raise ConfigError("a reason is required", mend="say in one sentence why; history keeps it")
    if len(reason) > MAX_REASON:
        raise ConfigError(f"the reason has {len(reason):,} characters; {MAX_REASON:,} are kept")
    return reason.strip()


def _who() -> str:
    try:
        user = getpass.getuser()
    except (KeyError, OSError):
        user = "unknown"  # a container's user id without a name
    return f"{user}@{socket.gethostname()}"
