"""The profile of a window of predictions, out of the counters that Prometheus scraped from Triton.

For who keeps no prediction log, or cannot read it where the monitor runs. It is close, not exact:

- A window is of when rows were served, not of the moments they asked about.
- Counts are increases as Prometheus makes them: between two scrapes it has to guess. A series that
  begins within the window, as that of a new pod, counts from zero.
- Rare categories are one count (PSI takes them together anyway); values outside the training range
  are one count, here `above`; infinities count among the nulls only.
- Absent values and ages have no role: shadows count among them.

A feature whose bins cannot be told apart by name (a category called `null`, `rare` or `unseen`) is
left out.
"""

from __future__ import annotations

import hashlib
import json
import math
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from urllib.parse import urlencode, urlsplit

from zeroskew.errors import ConfigError, DataError, ServingError
from zeroskew.monitoring.profile_vectors import emptied
from zeroskew.monitoring.served_profiles import ServedWindow, ViewAge
from zeroskew.profiles import (
    RARE,
    CategoricalProfile,
    ColumnProfile,
    NumericProfile,
    Profile,
    paired_bins,
)

TIMEOUT_SECONDS = 30.0
MOST_BYTES = 64 << 20
BEFORE = "1h"
"""A series without a sample for so long before the window is taken to begin in it."""


@dataclass(frozen=True, slots=True)
class _Counter:
    labels: Mapping[str, str]
    value: float


class PrometheusProfiles:
    """Reads one Prometheus, or what speaks its HTTP API (Thanos, Mimir, VictoriaMetrics)."""

    def __init__(
        self,
        url: str,
        *,
        headers: Mapping[str, str] | None = None,
        timeout_seconds: float = TIMEOUT_SECONDS,
    ) -> None:
        """`url`: up to, but without, `/api/v1`. `headers`: go with every request, such as
        Authorization. Raises `ConfigError` for an address that is none."""
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.netloc:
            raise ConfigError(
                f"{url!r} is no address of Prometheus", mend="such as http://prometheus:9090"
            )
        self._url = url.rstrip("/")
        self._headers, self._timeout = dict(headers or {}), timeout_seconds

    def window(
        self,
        model: str,
        version: str,
        since: datetime,
        until: datetime,
        roles: Sequence[str] = ("champion", "canary"),
        reference: Profile | None = None,
    ) -> ServedWindow:
        """Predictions of these roles served in [since, until), about.

        `reference`: the training set, in the bins that servers count with. Raises `ConfigError`
        without it, `ServingError` if Prometheus gives no answer, and `DataError` if it counted
        with other bins.
        """
        if reference is None:
            raise ConfigError(
                "counters say nothing of what bins mean", mend="give the training set's profile"
            )
        since, until = since.astimezone(UTC), until.astimezone(UTC)
        at = _Span(max(1, round((until - since).total_seconds())), until)
        served = f"model={_text(model)},version={_text(version)}"
        of_roles = f"{served},role=~{_text('|'.join(roles))}"
        bins = self._increase("zeroskew_feature_bin_rows_total", of_roles, at, "feature", "bin")
        outside = self._increase("zeroskew_feature_outside_rows_total", of_roles, at, "feature")
        columns: dict[str, ColumnProfile] = {}
        for name, empty in emptied(reference).columns.items():
            counts = {text: rows for (feature, text), rows in bins.items() if feature == name}
            if counts or (name,) in outside:
                filled = _filled(
                    name, reference.columns[name], empty, counts, outside.get((name,), 0.0)
                )
                columns.update({} if filled is None else {name: filled})
        rows = max((column.total for column in columns.values()), default=0)
        absent = self._increase("zeroskew_absent_values_total", served, at, "feature", "status")
        return ServedWindow(
            model, version, since, max(since, until), rows,
            Profile(columns, rows) if columns else emptied(reference),
            _rounded(absent, "missing"), _rounded(absent, "stale"), self._ages(served, at),
            self._digest(of_roles, at),
        )  # fmt: skip

    def _ages(self, served: str, at: _Span) -> dict[str, ViewAge]:
        family = "zeroskew_feature_age_seconds"
        counts = self._increase(f"{family}_count", served, at, "view")
        sums = self._increase(f"{family}_sum", served, at, "view")
        return {
            view: ViewAge(round(count), sums.get((view,), math.nan) / count, math.nan)
            for (view,), count in counts.items()
            if round(count)
        }

    def _digest(self, labels: str, at: _Span) -> str:
        """Of what the counters stood at: it changes when rows were added, not when time passes."""
        rows = f"zeroskew_feature_rows_total{{{labels}}}"
        last = self._ask(f"max without (feature) (last_over_time({rows}[{at.seconds}s]))", at.until)
        stood = sorted((sorted(each.labels.items()), each.value) for each in last)
        return hashlib.sha256(json.dumps(stood).encode()).hexdigest()

    def _increase(
        self, family: str, labels: str, at: _Span, *by: str
    ) -> dict[tuple[str, ...], float]:
        counter, group = f"{family}{{{labels}}}", ", ".join(by)
        grown = f"increase({counter}[{at.seconds}s])"
        # What a counter began with is not an increase to Prometheus: a pod's first rows would go.
        born = (
            f"min_over_time({counter}[{at.seconds}s])"
            f" unless present_over_time({counter}[{BEFORE}] offset {at.seconds}s)"
        )
        total: dict[tuple[str, ...], float] = {}
        for query in (grown, born):
            for each in self._ask(f"sum by ({group}) ({query})", at.until):
                key = tuple(each.labels.get(name, "") for name in by)
                total[key] = total.get(key, 0.0) + each.value
        return total

    def _ask(self, query: str, moment: datetime) -> list[_Counter]:
        asked = {"query": query, "time": f"{moment.timestamp():.3f}"}
        address = f"{self._url}/api/v1/query?{urlencode(asked)}"
        request = urllib.request.Request(address, headers=self._headers)  # noqa: S310
        try:
            with urllib.request.urlopen(request, timeout=self._timeout) as answer:  # noqa: S310
                content = answer.read(MOST_BYTES + 1)
        except urllib.error.HTTPError as error:
            with error:
                said = _said(error.read(1 << 16))
            raise ServingError(
                f"Prometheus refuses: {error.code} {said or error.reason}", where=self._url
            ) from None
        except (OSError, ValueError) as error:
            raise ServingError(
                f"Prometheus does not answer: {error}",
                where=self._url,
                mend="see that source.uri is its address, and that this place may reach it",
            ) from None
        if len(content) > MOST_BYTES:
            raise ServingError(
                f"Prometheus answers with more than {MOST_BYTES >> 20} MiB", where=self._url
            )
        return self._read(content)

    def _read(self, content: bytes) -> list[_Counter]:
        try:
            raw = json.loads(content)
            if raw["status"] != "success" or raw["data"]["resultType"] != "vector":
                raise ValueError(raw.get("error") or "no vector")
            found = [
                _Counter(dict(each["metric"]), float(each["value"][1]))
                for each in raw["data"]["result"]
            ]
        except (ValueError, KeyError, TypeError, IndexError, AttributeError) as error:
            raise ServingError(
                f"this is no answer of Prometheus: {type(error).__name__} {error}", where=self._url
            ) from None
        return [each for each in found if math.isfinite(each.value)]


@dataclass(frozen=True, slots=True)
class _Span:
    seconds: int
    until: datetime


def _filled(
    name: str,
    reference: ColumnProfile,
    empty: ColumnProfile,
    counts: Mapping[str, float],
    outside: float,
) -> ColumnProfile | None:
    """A column with these rows by the bins' names; None if names are not unique."""
    labels = paired_bins(reference, reference).labels
    if len(set(labels)) != len(labels):
        return None
    if unknown := sorted(set(counts) - set(labels)):
        raise DataError(
            f"feature `{name}` is counted in bins that its training set has not: "
            f"{', '.join(unknown[:3])}",
            mend="see that one artifact is served under one version",
        )
    rows = {label: round(counts.get(label, 0.0)) for label in labels}
    if isinstance(empty, NumericProfile):
        *inner, nulls = (rows[label] for label in labels)
        return NumericProfile(
            empty.edges, empty.low, empty.high, tuple(inner), nulls, above=round(outside)
        )
    assert isinstance(reference, CategoricalProfile)
    least = RARE * reference.total
    values, rare = [], rows["rare"]
    for value, before in zip(reference.values, reference.counts, strict=True):
        if before >= least and before > 0:
            values.append(rows[value])
        else:
            values.append(rare)
            rare = 0
    return CategoricalProfile(reference.values, tuple(values), rows["unseen"], rows["null"])


def _rounded(absent: Mapping[tuple[str, ...], float], status: str) -> dict[str, int]:
    return {
        feature: round(rows)
        for (feature, here), rows in absent.items()
        if here == status and round(rows)
    }


def _text(text: str) -> str:
    """A string of PromQL."""
    return json.dumps(text, ensure_ascii=False)


def _said(content: bytes) -> str:
    try:
        return str(json.loads(content)["error"])
    except (ValueError, KeyError, TypeError):
        return ""
