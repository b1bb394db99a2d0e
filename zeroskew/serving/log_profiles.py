"""Profiles of what was served, per hour and role, counted exactly once.

Beside the days of a version's log stands a folder `_profiles` (readers pass over names that start
with `_`), so that who wants profiles need not list what the traffic wrote:

    model=…/version=…/_profiles/reference.json                  the training set, in the same bins
    model=…/version=…/_profiles/date=…/hour=…/<role>-<writer>.json

The latter counts the rows of one writer with the version's frozen bins. It lists the segments it
counts, so that one which is shipped again after a crash is not counted again. The profile of an
hour is the merge of all its writers' files.
"""

from __future__ import annotations

import datetime as dt
import json
from collections import OrderedDict
from collections.abc import Iterable, Mapping
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from zeroskew.errors import DataError
from zeroskew.profiles import Profile
from zeroskew.serving.log_schema import (
    NATURAL_KINDS,
    TEXT_KINDS,
    LogSchema,
    age_name,
    parquet_name,
)
from zeroskew.serving.log_sink import Sink
from zeroskew.serving.log_spool import quoted

FORMAT = 1
FOLDER = "_profiles"
REFERENCE = "reference.json"
HOURS_KEPT = 256
"""Hour profiles that are remembered, so that they need not be read back from the sink."""
_NUMBERS = ("int64", "int32", "float64", "float32", "bool", "timestamp")


class Measure:
    """Measures tables of one version's log."""

    def __init__(self, schema: LogSchema, redacted: Iterable[str]) -> None:
        """`redacted` columns are not measured: what is written is not what was served."""
        self._schema = schema
        columns: dict[str, Any] = {}
        if schema.reference is not None:
            columns.update(Profile.from_json(schema.reference).columns)
        hidden = set(redacted)
        kinds = {name: kind for name, kind in schema.columns.items() if name not in hidden}
        columns = {
            name: profile
            for name, profile in columns.items()
            if name in kinds and _measurable(profile.kind, kinds[name])
        }
        names = {name: parquet_name(name) for name in columns}
        if schema.score_reference is not None:
            score = Profile.from_json(schema.score_reference).columns.get("score")
            if score is not None:
                columns["score"], names["score"] = score, "score"
        self._names = names
        rows = max((profile.total for profile in columns.values()), default=0)
        self._profile = Profile(columns, rows)

    @property
    def reference(self) -> Profile:
        """The frozen bins, with the rows of the training set in them; scores are `score`."""
        return self._profile

    def profile(self, rows: pa.Table) -> Profile:
        """The rows, counted with the frozen bins."""
        measured = self._profile.measure({n: rows[column] for n, column in self._names.items()})
        return Profile(measured.columns, rows.num_rows)

    def summary(self, rows: pa.Table) -> dict[str, Any]:
        """What an hour's file says of some rows of one role."""
        schema = self._schema
        times = pc.min_max(rows["event_time"].cast(pa.int64())).as_py()
        return {
            "start": times["min"],
            "end": times["max"],
            "rows": rows.num_rows,
            "degraded": pc.sum(rows["degraded"]).as_py() or 0,
            "missing": _count_names(rows["missing"]),
            "stale": _count_names(rows["stale"]),
            "feature_age": {view: _ages(rows[age_name(view)]) for view in schema.views},
            "profile": self.profile(rows).to_json(),
        }


def by_role(rows: pa.Table) -> dict[str, pa.Table]:
    """The rows of each role."""
    roles = pc.unique(rows["role"]).to_pylist()
    if len(roles) == 1:
        return {roles[0]: rows}
    return {role: rows.filter(pc.equal(rows["role"], role)) for role in sorted(roles)}


class HourProfiles:
    """The profiles of one writer. Folders are `<version's folder>/date=…/hour=…`."""

    def __init__(self, schema: LogSchema, measure: Measure, writer: str) -> None:
        self._schema, self._measure, self._writer = schema, measure, writer
        self._known: OrderedDict[str, dict[str, Any]] = OrderedDict()
        self._referred: set[str] = set()

    def refer(self, sink: Sink, version_folder: str) -> None:
        """See that the training set's profile is there. Raises what the sink raises."""
        name = f"{version_folder}/{FOLDER}/{REFERENCE}"
        if name in self._referred:
            return
        if sink.read(name) is None:
            said = {
                "format": FORMAT,
                "model": self._schema.model,
                "version": self._schema.version,
                "profile": self._measure.reference.to_json(),
            }
            sink.write(name, json.dumps(said).encode())
        self._referred.add(name)

    def add(self, sink: Sink, folder: str, segment: int, role: str, rows: pa.Table) -> None:
        """Count a segment's rows of one hour (`folder`) and role, unless that has been done.

        Raises what the sink raises; then nothing has been counted, or all of it has.
        """
        version, _, hour = folder.partition("/date=")
        name = f"{version}/{FOLDER}/date={hour}/{quoted(role)}-{self._writer}.json"
        before = self._known.pop(name, None) or _parsed(sink.read(name))
        if before is None or segment not in before["segments"]:
            after = {
                "format": FORMAT,
                "model": self._schema.model,
                "version": self._schema.version,
                "role": role,
                "writer": self._writer,
                "segments": [segment],
                **self._measure.summary(rows),
            }
            if before is not None:
                after = _merged(before, after)
            sink.write(name, json.dumps(_shown(after)).encode())
            before = after
        self._known[name] = before
        while len(self._known) > HOURS_KEPT:
            self._known.popitem(last=False)


def _measurable(profile_kind: str, kind: str) -> bool:
    if profile_kind == "numeric":
        return kind in _NUMBERS
    # The text of a list is not the same in a training frame and here.
    return kind in (*NATURAL_KINDS, *TEXT_KINDS)


def _merged(a: Mapping[str, Any], b: Mapping[str, Any]) -> dict[str, Any]:
    profile = Profile.from_json(a["profile"]).merge(Profile.from_json(b["profile"]))
    return {
        **b,
        "segments": sorted({*a["segments"], *b["segments"]}),
        "start": min(a["start"], b["start"]),
        "end": max(a["end"], b["end"]),
        "rows": a["rows"] + b["rows"],
        "degraded": a["degraded"] + b["degraded"],
        "missing": _added(a["missing"], b["missing"]),
        "stale": _added(a["stale"], b["stale"]),
        "feature_age": {
            view: _merged_ages(a["feature_age"].get(view, _NO_AGES), ages)
            for view, ages in b["feature_age"].items()
        },
        "profile": profile.to_json(),
    }


def _added(a: Mapping[str, int], b: Mapping[str, int]) -> dict[str, int]:
    return {name: a.get(name, 0) + b.get(name, 0) for name in sorted({*a, *b})}


def _count_names(lists: pa.ChunkedArray) -> dict[str, int]:
    counted = pc.value_counts(pc.list_flatten(lists)).to_pylist()
    return {entry["values"]: entry["counts"] for entry in counted}


_NO_AGES: Mapping[str, Any] = {"count": 0, "mean": None, "max": None}


def _ages(milliseconds: pa.ChunkedArray) -> dict[str, Any]:
    count = len(milliseconds) - milliseconds.null_count
    if not count:
        return dict(_NO_AGES)
    return {
        "count": count,
        "mean": pc.mean(milliseconds).as_py() / 1000,
        "max": pc.max(milliseconds).as_py() / 1000,
    }


def _merged_ages(a: Mapping[str, Any], b: Mapping[str, Any]) -> dict[str, Any]:
    if not a["count"] or not b["count"]:
        return dict(a if a["count"] else b)
    count = a["count"] + b["count"]
    mean = (a["mean"] * a["count"] + b["mean"] * b["count"]) / count
    return {"count": count, "mean": mean, "max": max(a["max"], b["max"])}


def _shown(summary: Mapping[str, Any]) -> dict[str, Any]:
    """Moments as people and other programs read them."""
    moments = {name: _moment_text(summary[name]) for name in ("start", "end")}
    return {**summary, **moments}


def _parsed(content: bytes | None) -> dict[str, Any] | None:
    if content is None:
        return None
    try:
        raw = json.loads(content)
        if raw.get("format") == FORMAT:
            return {**raw, **{name: _moment(raw[name]) for name in ("start", "end")}}
    except (ValueError, KeyError, AttributeError, DataError):
        pass
    # Somebody else's file, or damaged: its rows are in the Parquet files beside it.
    return None


_EPOCH = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)


def _moment_text(microseconds: int) -> str:
    return (_EPOCH + dt.timedelta(microseconds=microseconds)).isoformat()


def _moment(text: str) -> int:
    return (dt.datetime.fromisoformat(text) - _EPOCH) // dt.timedelta(microseconds=1)
