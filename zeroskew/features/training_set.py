"""The training set: joined rows split by time, frozen with a manifest that says what they are.

A folder with `train.parquet`, `validation.parquet`, `test.parquet` and `manifest.json`. It holds
every feature of the service, so that an older model can be scored on the same rows. It appears in
one step: whoever sees the folder sees all of it.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import uuid
from dataclasses import asdict, dataclass, fields
from datetime import datetime
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray

from zeroskew.errors import ConfigError, DataError, FeatureStoreError, SchemaError
from zeroskew.features import moments
from zeroskew.features.content_hash import content_hash
from zeroskew.features.join import Progress
from zeroskew.features.repository import Repository
from zeroskew.features.row import FeatureRow
from zeroskew.features.sources import READ_ERRORS, unreadable

SPLITS = ("train", "validation", "test")
MANIFEST = "manifest.json"
_FORMAT = 1


@dataclass(frozen=True)
class Manifest:
    """What `manifest.json` says about a training set. Moments are ISO 8601 in UTC."""

    content_hash: str
    """SHA-256 of the rows of all splits; the same rows in other Parquet encodings hash the same."""
    rows: dict[str, int]
    time_range: tuple[str, str]
    """Event times asked for: first included, last excluded."""
    cuts: tuple[str, str]
    """Where validation and where test begin."""
    purged: dict[str, int]
    """Rows dropped because their answer was known only after the cut behind their split."""
    feature_service: str
    feature_schema_version: str
    code_sha: str
    label: str
    event_timestamp: str
    label_timestamp: str | None
    row: dict[str, list[str]]
    """The `FeatureRow` that enters the graph."""
    entity_rows_hash: str
    """Content hash of the entity rows that were joined, before the split."""
    filtered_by_created: bool
    """Whether values written after the event time were kept out."""
    format: int = _FORMAT


@dataclass(frozen=True)
class TrainingSet:
    """An opened training set; nothing but the manifest has been read."""

    folder: Path
    manifest: Manifest

    @classmethod
    def open(cls, folder: str | Path) -> TrainingSet:
        """Raises `DataError` if the folder holds no training set, or one of another format."""
        folder = Path(folder)
        path = folder / MANIFEST
        try:
            raw = json.loads(path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            raise DataError(
                f"there is no {MANIFEST}, so this is no training set",
                where=str(folder),
                mend="build one with build_training_set, or the join step of the pipeline",
            ) from None
        except (OSError, ValueError) as error:
            raise DataError(f"cannot be read: {error}", where=str(path)) from None
        known = {field.name for field in fields(Manifest)}
        if not isinstance(raw, dict) or raw.get("format") != _FORMAT or known - set(raw):
            raise DataError(
                f"is not a manifest of format {_FORMAT}",
                where=str(path),
                mend="build the training set anew with this version of Zeroskew",
            )
        values = {name: raw[name] for name in known}
        values |= {name: tuple(values[name]) for name in ("time_range", "cuts")}
        return cls(folder, Manifest(**values))

    @property
    def row(self) -> FeatureRow:
        """Order and kind of the model's inputs."""
        return FeatureRow.from_json(self.manifest.row)

    @property
    def columns(self) -> list[str]:
        """Names of all columns: entity rows' first, then features in service order."""
        path = self._path("train")
        try:
            return list(pl.read_parquet_schema(path))
        except READ_ERRORS as error:
            raise unreadable(str(path), error) from None

    def read(self, split: str, columns: list[str] | None = None) -> pl.DataFrame:
        """Rows of `train`, `validation` or `test`, oldest first; only `columns` if given."""
        path = self._path(split)
        if columns is not None:
            held = set(self.columns)
            missing = [name for name in columns if name not in held]
            if missing:
                raise SchemaError(
                    f"lacks column {', '.join(map(repr, missing))}",
                    where=str(path),
                    mend="leave it out, or build the training set with a service that has it",
                )
        try:
            return pl.read_parquet(path, columns=columns)
        except READ_ERRORS as error:
            raise unreadable(str(path), error) from None

    def encode(
        self, split: str
    ) -> tuple[NDArray[np.float32], NDArray[np.int32], NDArray[np.float32]]:
        """The split as tensors: numeric `[n, …]`, categorical `[n, …]`, label `[n]`."""
        frame = self.read(split, columns=[*self.row.names, self.manifest.label])
        numeric, categorical = self.row.encode(
            {name: frame.get_column(name) for name in self.row.names}
        )
        label = frame.get_column(self.manifest.label).cast(pl.Float32).to_numpy()
        return numeric, categorical, label

    def verify(self) -> None:
        """Read everything and compare with the manifest's hash; `DataError` on a difference."""
        frames = {split: self.read(split) for split in SPLITS}
        for split, frame in frames.items():
            if frame.height != self.manifest.rows[split]:
                raise DataError(
                    f"holds {frame.height} rows, its manifest says {self.manifest.rows[split]}",
                    where=str(self._path(split)),
                    mend="build the training set anew",
                )
        if _hash_of(frames) != self.manifest.content_hash:
            raise DataError(
                "the rows are not those that the manifest was written for",
                where=str(self.folder),
                mend="build the training set anew; somebody changed a file since",
            )

    def _path(self, split: str) -> Path:
        if split not in SPLITS:
            raise ConfigError(f"there is no split {split!r}", mend=f"one of {', '.join(SPLITS)}")
        return self.folder / f"{split}.parquet"


def build_training_set(
    repository: Repository,
    *,
    service: str,
    entity_rows: pl.DataFrame,
    label: str,
    event_timestamp: str,
    start: datetime,
    end: datetime,
    label_timestamp: str | None,
    validation: float,
    test: float,
    row: FeatureRow,
    out: Path,
    code_sha: str = "",
    on_progress: Progress | None = None,
) -> TrainingSet:
    """Join the service's features to labelled rows, split them by time and write the folder `out`.

    Rows count whose event time is in `[start, end)` and whose label is known: not null, and if
    there is a `label_timestamp`, before `end`. They are ordered by event time and cut so that the
    newest `test` share tests and the share before it validates; rows of one moment stay together.
    A row whose label became known only after the cut behind its split is purged: at that moment,
    nobody could have trained on it. Naive datetimes are UTC.

    An existing folder `out` is replaced when the new one is complete. Raises `DataError` if a split
    would be empty or labels are not 0 and 1, `SchemaError` on missing or mistyped columns.
    """
    from zeroskew.features.service_join import filters_by_created, join_service

    if not (0 <= validation < 1 and 0 <= test < 1 and validation + test < 1):
        raise ConfigError(
            f"validation {validation} and test {test} leave nothing to train on", where="split"
        )
    start, end = moments.aware(start), moments.aware(end)
    rows = _known_rows(entity_rows, label, event_timestamp, label_timestamp, start, end)
    times = rows.get_column(event_timestamp)
    cuts = _cuts(times, validation, test, end)
    joined = join_service(
        repository, service, rows, event_timestamp=event_timestamp, on_progress=on_progress
    )
    _require_row(joined, row, service)
    frames, purged = _split(joined, times, cuts, label_timestamp)
    shares = {"train": 1.0, "validation": validation, "test": test}
    for split, frame in frames.items():
        if shares[split] and not frame.height:
            raise DataError(
                f"no row is left for {split}: {rows.height} rows from {times[0]} to {times[-1]}, "
                f"{purged.get(split, 0)} purged",
                where="training set",
                mend="take a longer range of time, or a larger share for it",
            )
    manifest = Manifest(
        content_hash=_hash_of(frames),
        rows={split: frame.height for split, frame in frames.items()},
        time_range=(start.isoformat(), end.isoformat()),
        cuts=(cuts[0].isoformat(), cuts[1].isoformat()),
        purged=purged,
        feature_service=service,
        feature_schema_version=repository.schema_version(service),
        code_sha=code_sha,
        label=label,
        event_timestamp=event_timestamp,
        label_timestamp=label_timestamp,
        row=row.to_json(),
        entity_rows_hash=content_hash(rows),
        filtered_by_created=filters_by_created(repository),
    )
    _write(frames, manifest, Path(out), on_progress)
    return TrainingSet(Path(out), manifest)


def _known_rows(
    rows: pl.DataFrame,
    label: str,
    event_timestamp: str,
    label_timestamp: str | None,
    start: datetime,
    end: datetime,
) -> pl.DataFrame:
    needed = [event_timestamp, label, *([label_timestamp] if label_timestamp else [])]
    missing = [name for name in needed if name not in rows.columns]
    if missing:
        raise SchemaError(
            f"lack column {', '.join(map(repr, missing))}",
            where="entity rows",
            mend=f"they have: {', '.join(rows.columns)}",
        )
    if start >= end:
        raise ConfigError(f"the range {start} to {end} is empty", where="training set")
    times = [
        moments.as_utc(rows.get_column(name), where="entity rows").dt.cast_time_unit("us")
        for name in needed
        if name != label
    ]
    rows = rows.with_columns(times)
    event = pl.col(event_timestamp)
    known = (event >= start) & (event < end) & pl.col(label).is_not_null()
    if label_timestamp:
        known &= pl.col(label_timestamp) < end
    kept = rows.filter(known)
    if not kept.height:
        span = rows.get_column(event_timestamp)
        raise DataError(
            f"no labelled row between {start.isoformat()} and {end.isoformat()}"
            + (
                f"; there are {rows.height} from {span.min()!s} to {span.max()!s}"
                if len(span)
                else ""
            ),
            where="entity rows",
            mend="take another range of time",
        )
    values = kept.get_column(label)
    numbers = values.cast(pl.Float64, strict=False) if values.dtype != pl.String else None
    if numbers is None or not numbers.is_in([0.0, 1.0]).all():
        strange = values.unique().sort().head(5).to_list()
        raise DataError(
            f"label {label!r} must be 0 or 1, but there are {strange}", where="entity rows"
        )
    return kept.sort(event_timestamp, maintain_order=True)


def _cuts(
    times: pl.Series, validation: float, test: float, end: datetime
) -> tuple[datetime, datetime]:
    """Moments at which validation and test begin; `end` for a split that is not wanted."""
    count = len(times)

    def at(share_behind: float) -> datetime:
        position = count - round(count * share_behind)
        return times[position] if position < count else end

    second = at(test) if test else end
    first = at(validation + test) if validation else second
    return first, second


def _split(
    joined: pl.DataFrame,
    times: pl.Series,
    cuts: tuple[datetime, datetime],
    label_timestamp: str | None,
) -> tuple[dict[str, pl.DataFrame], dict[str, int]]:
    borders = [0, *(int(times.search_sorted(cut, "left")) for cut in cuts), len(times)]
    frames, purged = {}, {}
    for number, split in enumerate(SPLITS):
        frame = joined.slice(borders[number], borders[number + 1] - borders[number])
        if number < 2:
            before = frame.height
            if label_timestamp:
                frame = frame.filter(pl.col(label_timestamp) <= cuts[number])
            purged[split] = before - frame.height
        frames[split] = frame
    return frames, purged


def _require_row(joined: pl.DataFrame, row: FeatureRow, service: str) -> None:
    for name in row.names:
        if name not in joined.columns:
            raise ConfigError(
                f"the model's input {name!r} is no feature of {service}",
                where="feature row",
                mend="make the row with feature_row(repository, service, …)",
            )


def _hash_of(frames: dict[str, pl.DataFrame]) -> str:
    parts = [[split, content_hash(frames[split])] for split in SPLITS]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


def _write(
    frames: dict[str, pl.DataFrame], manifest: Manifest, out: Path, on_progress: Progress | None
) -> None:
    out = out.absolute()
    fresh = out.with_name(f".{out.name}.{uuid.uuid4().hex}.tmp")
    stale = out.with_name(f".{out.name}.{uuid.uuid4().hex}.old")
    try:
        fresh.mkdir(parents=True)
        for number, (split, frame) in enumerate(frames.items()):
            if on_progress:
                on_progress("writing the training set", number, len(frames))
            frame.write_parquet(fresh / f"{split}.parquet")
        (fresh / MANIFEST).write_text(json.dumps(asdict(manifest), indent=2), encoding="utf-8")
        if out.exists():
            os.replace(out, stale)
        os.replace(fresh, out)
        if on_progress:
            on_progress("writing the training set", len(frames), len(frames))
    except OSError as error:
        if stale.exists() and not out.exists():
            os.replace(stale, out)
        raise FeatureStoreError(
            f"cannot be written: {error.strerror or error}",
            where=str(out),
            mend="make room or correct the permissions; nothing was changed",
        ) from None
    finally:
        try:
            _remove(fresh, stale)
        except KeyboardInterrupt:
            # polars raises an interrupt by itself, and Python the same one again at the next call.
            _remove(fresh, stale)
            raise


def _remove(*folders: Path) -> None:
    for folder in folders:
        shutil.rmtree(folder, ignore_errors=True)
