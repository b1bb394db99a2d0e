"""What audits and live performance come to, kept beside the prediction log for who watches.

    <log>/model=…/_reports/<kind>/<version>/<UTC time>.json

Each is one number with an interval, and whatever its maker keeps as `details`. A pipeline on
a schedule writes them; monitors, pages and metrics read the newest.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Literal

from zeroskew.errors import DataError, ServingError
from zeroskew.serving.log_sink import check_sink, open_sink, sink_filesystem
from zeroskew.serving.log_spool import quoted

FORMAT = 1
_STAMP = "%Y%m%dT%H%M%S%fZ"

STORE = "store"
"""In place of a version, in reports of freshness: a store serves all of them."""

Kind = Literal["consistency", "performance", "decision", "freshness"]


@dataclass(frozen=True, slots=True)
class Report:
    """One result about one version; `value` None: it is inconclusive, and `message` says why."""

    kind: Kind
    model: str
    version: str
    at: datetime
    """When it was made."""
    value: float | None
    low: float
    """The value may as well be down to here, and up to `high`; equal to it where it is exact."""
    high: float
    samples: int
    message: str = ""
    details: Mapping[str, Any] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        finite = {
            n: v if math.isfinite(v) else None for n, v in (("low", self.low), ("high", self.high))
        }
        return {
            "format": FORMAT,
            "kind": self.kind,
            "model": self.model,
            "version": self.version,
            "at": self.at.astimezone(UTC).isoformat(),
            "value": self.value,
            **finite,
            "samples": self.samples,
            "message": self.message,
            "details": dict(self.details),
        }

    @classmethod
    def from_json(cls, raw: Mapping[str, Any], where: str = "report") -> Report:
        """Raises `DataError` for what is no report of this format."""
        try:
            if raw["format"] != FORMAT:
                raise ValueError(f"format {raw['format']!r}; this version reads {FORMAT}")
            value = None if raw["value"] is None else float(raw["value"])
            return cls(
                raw["kind"], raw["model"], raw["version"], datetime.fromisoformat(raw["at"]), value,
                -math.inf if raw["low"] is None else float(raw["low"]),
                math.inf if raw["high"] is None else float(raw["high"]),
                int(raw["samples"]), str(raw["message"]), dict(raw["details"]),
            )  # fmt: skip
        except (KeyError, TypeError, ValueError) as error:
            raise DataError(f"is no report: {error}", where=where) from None


def write_report(log: str, report: Report, name: str = "") -> str:
    """Keep it; returns where. `name`: instead of the time, for what shall be there once.

    Raises `ServingError` if it cannot be written.
    """
    stamp = name or report.at.astimezone(UTC).strftime(_STAMP)
    path = f"{_folder(report.model, report.kind)}/{quoted(report.version)}/{stamp}.json"
    try:
        open_sink(check_sink(log)).write(path, json.dumps(report.to_json(), indent=1).encode())
    except OSError as error:
        raise ServingError(
            f"the report cannot be written: {error}", where=f"{log}/{path}"
        ) from None
    return f"{log.rstrip('/')}/{path}"


def newest_report(
    log: str, kind: Kind, model: str, version: str, *, since: datetime
) -> Report | None:
    """The last one made since then. Raises `ServingError` or `DataError` if it cannot be read."""
    found = list_reports(log, kind, model, version, since=since, newest=1)
    return found[0] if found else None


def find_decision(log: str, model: str, checksum: str) -> Report | None:
    """The record of a decision by its checksum, or the twelve digits that runs are named by.

    Raises `ServingError` or `DataError` if it cannot be read.
    """
    from pyarrow import fs

    system, root = sink_filesystem(check_sink(log))
    folder = f"{root}/{_folder(model, 'decision')}"
    try:
        found = system.get_file_info(fs.FileSelector(folder, allow_not_found=True, recursive=True))
        for each in found:
            if each.is_file and each.base_name == f"{checksum[:12]}.json":
                with system.open_input_stream(each.path) as stream:
                    return _parsed(stream.read(), each.path)
    except OSError as error:
        raise ServingError(f"reports cannot be read: {error}", where=folder) from None
    return None


def list_reports(
    log: str,
    kind: Kind,
    model: str,
    version: str,
    *,
    since: datetime | None = None,
    newest: int = 1000,
) -> list[Report]:
    """The newest ones, newest first."""
    from pyarrow import fs

    system, root = sink_filesystem(check_sink(log))
    folder = f"{root}/{_folder(model, kind)}/{quoted(version)}"
    try:
        listed = system.get_file_info(fs.FileSelector(folder, allow_not_found=True))
        paths = sorted((i.path for i in listed if i.path.endswith(".json")), reverse=True)
        found = []
        for path in paths[:newest]:
            with system.open_input_stream(path) as stream:
                found.append(_parsed(stream.read(), path))
    except OSError as error:
        raise ServingError(f"reports cannot be read: {error}", where=folder) from None
    return [each for each in found if since is None or each.at >= since]


def _folder(model: str, kind: str) -> str:
    return f"model={quoted(model)}/_reports/{kind}"


def _parsed(content: bytes, path: str) -> Report:
    try:
        return Report.from_json(json.loads(content), path)
    except ValueError as error:
        raise DataError(f"is no report: {error}", where=path) from None
