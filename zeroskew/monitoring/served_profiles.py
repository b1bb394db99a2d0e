"""The profile of a window of predictions, out of the hourly profiles beside the prediction log.

What is read depends on hours, roles and servers, never on how many predictions there were. An hour
that has begun before the window's start, or goes on after its end, counts as a whole.
"""

from __future__ import annotations

import hashlib
import json
from collections import OrderedDict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from typing import Any

import numpy as np
from numpy.typing import NDArray

from zeroskew.errors import DataError, ServingError
from zeroskew.monitoring.profile_vectors import Layout, emptied, packed, unpacked
from zeroskew.profiles import Profile
from zeroskew.serving.log_profiles import FOLDER, FORMAT, REFERENCE
from zeroskew.serving.log_sink import check_sink, sink_filesystem
from zeroskew.serving.log_spool import quoted

CACHE_BYTES = 64 << 20
SETTLED = timedelta(seconds=60)
"""A store may tell times of change by the second, from a clock of its own: a file that is younger
may have changed and look the same, so it is read again."""
HOUR = timedelta(hours=1)


@dataclass(frozen=True, slots=True)
class ViewAge:
    """How old the values of one feature view were when they were served, seconds."""

    count: int
    mean: float
    longest: float


@dataclass(frozen=True)
class ServedWindow:
    """What was served, whichever way it was counted."""

    model: str
    version: str
    since: datetime
    """Of the oldest row that may count."""
    until: datetime
    rows: int
    profile: Profile
    """Features and `score`, in the bins of the version's training set."""
    missing: Mapping[str, int] = field(default_factory=dict)
    """Rows by feature that nobody knew a value for."""
    stale: Mapping[str, int] = field(default_factory=dict)
    ages: Mapping[str, ViewAge] = field(default_factory=dict)
    digest: str = ""
    """Of what was read: it changes when the rows do."""


@dataclass(frozen=True, slots=True)
class _Hour:
    role: str
    layout: Layout
    counts: NDArray[np.int64]
    rows: int
    missing: Mapping[str, int]
    stale: Mapping[str, int]
    ages: Mapping[str, ViewAge]

    @property
    def size(self) -> int:
        """Bytes in memory, about."""
        named = len(self.missing) + len(self.stale) + len(self.ages)
        return 1024 + self.counts.nbytes + 128 * named


class ServedProfiles:
    """Reads one log; any number of models. Not for several threads at a time."""

    def __init__(self, log: str, cache_bytes: int = CACHE_BYTES) -> None:
        """`log`: folder or s3:// prefix. Raises `ConfigError` for an address that is none."""
        self._log = log
        self._system, self._root = sink_filesystem(check_sink(log))
        self._room, self._used = cache_bytes, 0
        self._hours: OrderedDict[tuple[str, int, int], _Hour] = OrderedDict()
        self._layouts: dict[Layout, Layout] = {}

    def reference(self, model: str, version: str) -> Profile | None:
        """The training set of a version, as its servers know it; None before anything was served.

        Raises `ServingError` if the log cannot be read, `DataError` for a damaged file.
        """
        path = f"{self._folder(model, version)}/{REFERENCE}"
        try:
            raw = _parsed(self._read(path), path)
        except FileNotFoundError:
            return None
        try:
            return Profile.from_json(raw.get("profile") or {})
        except DataError as error:
            raise DataError(error.what, where=path) from None

    def window(
        self,
        model: str,
        version: str,
        since: datetime,
        until: datetime,
        roles: Sequence[str] = ("champion", "canary"),
        reference: Profile | None = None,
    ) -> ServedWindow:
        """Predictions of these roles about moments in [since, until), begun hours as a whole.

        `reference`: gives the bins if nothing was served. Raises as `reference` does, and
        `DataError` if servers of the version have counted with different bins.
        """
        since, until = since.astimezone(UTC), until.astimezone(UTC)
        digest = hashlib.sha256()
        total: NDArray[np.int64] | None = None
        layout: Layout | None = None
        rows = 0
        missing: dict[str, int] = {}
        stale: dict[str, int] = {}
        ages: dict[str, ViewAge] = {}
        for path, size, changed in self._files(model, version, since, until, roles):
            hour = self._hour(path, size, changed)
            if hour is None or hour.role not in roles:
                continue
            digest.update(f"{path} {size} {changed}\n".encode())
            if layout is None or total is None:
                layout, total = hour.layout, hour.counts.copy()
            elif hour.layout is not layout:
                raise DataError(
                    "servers of one version have counted with different bins",
                    where=path,
                    mend="serve one artifact under one version; register a new one for another",
                )
            else:
                total += hour.counts
            rows += hour.rows
            _add(missing, hour.missing)
            _add(stale, hour.stale)
            _add_ages(ages, hour.ages)
        if layout is not None and total is not None:
            profile = unpacked(layout, total, rows)
        else:
            profile = Profile({}, 0) if reference is None else emptied(reference)
        return ServedWindow(
            model, version, _floor(since), max(until, _floor(since)), rows, profile,
            missing, stale, ages, digest.hexdigest(),
        )  # fmt: skip

    def _folder(self, model: str, version: str) -> str:
        return f"{self._root}/model={quoted(model)}/version={quoted(version)}/{FOLDER}"

    def _files(
        self, model: str, version: str, since: datetime, until: datetime, roles: Sequence[str]
    ) -> Iterable[tuple[str, int, int]]:
        """Path, size and time of change (ns), in order."""
        from pyarrow import fs

        wanted = tuple(f"{quoted(role)}-" for role in roles)
        first, found = _floor(since), []
        for day in _days(first, until):
            folder = f"{self._folder(model, version)}/date={day}"
            selector = fs.FileSelector(folder, allow_not_found=True, recursive=True)
            for info in self._listed(selector):
                path = info.path
                name = path.rpartition("/")[2]
                if not (name.endswith(".json") and name.startswith(wanted)):
                    continue
                hour = path.rpartition("/hour=")[2][:2]
                if not hour.isdigit():
                    continue
                begins = datetime(day.year, day.month, day.day, int(hour), tzinfo=UTC)
                if first <= begins < until:
                    found.append((path, info.size, info.mtime_ns or 0))
        return sorted(found)

    def _listed(self, selector: Any) -> Any:
        try:
            return self._system.get_file_info(selector)
        except OSError as error:
            raise ServingError(f"the log cannot be listed: {error}", where=self._log) from None

    def _read(self, path: str) -> bytes:
        try:
            with self._system.open_input_stream(path) as stream:
                return bytes(stream.read())
        except FileNotFoundError:
            raise
        except OSError as error:
            raise ServingError(f"cannot be read: {error}", where=path) from None

    def _hour(self, path: str, size: int, changed: int) -> _Hour | None:
        key = path, size, changed
        if key in self._hours:
            self._hours.move_to_end(key)
            return self._hours[key]
        try:
            made = self._made(_parsed(self._read(path), path), path)
        except FileNotFoundError:
            return None
        if changed <= (datetime.now(UTC) - SETTLED).timestamp() * 1e9:
            self._hours[key] = made
            self._used += made.size
        while self._used > self._room:
            _, old = self._hours.popitem(last=False)
            self._used -= old.size
        return made

    def _made(self, raw: Mapping[str, Any], path: str) -> _Hour:
        try:
            layout, counts = packed(raw["profile"], path)
            ages = {
                view: ViewAge(int(age["count"]), float(age["mean"]), float(age["max"]))
                for view, age in raw["feature_age"].items()
                if age["count"]
            }
            names = [
                {str(name): int(count) for name, count in raw[kind].items()}
                for kind in ("missing", "stale")
            ]
            role, rows, (missing, stale) = raw["role"], int(raw["rows"]), names
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise DataError(
                f"is no profile of a prediction log: {type(error).__name__} {error}", where=path
            ) from None
        layout = self._layouts.setdefault(layout, layout)
        return _Hour(role, layout, counts, rows, missing, stale, ages)


def _parsed(content: bytes, path: str) -> dict[str, Any]:
    try:
        raw = json.loads(content)
        known = raw["format"] == FORMAT
    except (ValueError, KeyError, TypeError) as error:
        raise DataError(f"is no profile of a prediction log: {error}", where=path) from None
    if not known:
        raise DataError(f"format {raw['format']!r}; this version reads {FORMAT}", where=path)
    return dict(raw)


def _floor(moment: datetime) -> datetime:
    return moment.replace(minute=0, second=0, microsecond=0)


def _days(first: datetime, until: datetime) -> Iterable[date]:
    day = first.date()
    while datetime(day.year, day.month, day.day, tzinfo=UTC) < until:
        yield day
        day += timedelta(days=1)


def _add(total: dict[str, int], more: Mapping[str, int]) -> None:
    for name, count in more.items():
        total[name] = total.get(name, 0) + count


def _add_ages(total: dict[str, ViewAge], more: Mapping[str, ViewAge]) -> None:
    for view, age in more.items():
        if (known := total.get(view)) is None:
            total[view] = age
            continue
        count = known.count + age.count
        mean = (known.mean * known.count + age.mean * age.count) / count
        total[view] = ViewAge(count, mean, max(known.longest, age.longest))
