"""The times of a cron expression in a time zone, through days of 23 and 25 hours.

As Debian's cron does it (crontab(5) of Debian), by the library cronsim. Where clocks are put
forward, a job at a fixed time inside the hour that does not exist runs right after it; where they
are put back, one inside the hour that exists twice runs the first time only. A job whose minute or
hour begins with `*` follows elapsed time: it runs in the second of the two hours again. (On Lord
Howe Island, the one place whose clocks change by half an hour, such a job may leave out that half.)
"""

from __future__ import annotations

import functools
import itertools
import re
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

from cronsim import CronSim, CronSimError

__all__ = ["CRON_FIELDS", "CRON_PATTERN", "ZONE_PATTERN", "Times", "check_cron", "check_zone"]

CRON_PATTERN = "^[0-9A-Za-z*/,-]+( +[0-9A-Za-z*/,-]+){4}$"
"""Five fields. What each may hold is in `CRON_FIELDS`; that 5-1 is not a range and 31 February is
not a day is for `check_cron` to say."""
ZONE_PATTERN = r"^[A-Z][A-Za-z0-9_+-]{0,31}(/[A-Za-z0-9_+-]{1,31}){0,2}$"


def _field(number: str) -> str:
    item = rf"([*]|({number})(-({number}))?)(/[1-9][0-9]?)?"
    return f"{item}(,{item})*"


_MONTHS = "jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec"
_DAYS = "sun|mon|tue|wed|thu|fri|sat"
CRON_FIELDS: Mapping[str, str] = {
    "minute: 0 to 59": _field("[0-5]?[0-9]"),
    "hour: 0 to 23": _field("[01]?[0-9]|2[0-3]"),
    "day of the month: 1 to 31": _field("0?[1-9]|[12][0-9]|3[01]"),
    "month: 1 to 12, or jan to dec": _field(f"0?[1-9]|1[0-2]|{_MONTHS}|{_MONTHS.upper()}"),
    "day of the week: 0 to 7 (0 and 7 are Sunday), or sun to sat": _field(
        f"[0-7]|{_DAYS}|{_DAYS.upper()}"
    ),
}
"""Pattern of each field, in order, by what it may hold besides `*`, lists, ranges and steps."""

_LOOK_BACK = tuple(timedelta(hours=hours) for hours in (3, 48, 1440, 44_000, 480_000))


def check_cron(text: str) -> str:
    """`text`, which matches `CRON_PATTERN`. Raises `ValueError` if it is no cron expression."""
    for field, (range_, pattern) in zip(text.split(), CRON_FIELDS.items(), strict=True):
        if not re.fullmatch(pattern, field):
            raise ValueError(f"{field!r} cannot be the {range_}, with *, lists, ranges and steps")
    try:
        CronSim(text, datetime(2000, 1, 1, tzinfo=UTC))
    except CronSimError as error:
        what = str(error).lower().replace("bad ", "the ")
        raise ValueError(f"{text!r} has no time: {what} cannot be") from None
    return text


def check_zone(name: str) -> str:
    """`name`. Raises `ValueError` if the time zone database does not have it."""
    _zone(name)
    return name


class Times:
    """The times of one expression. All moments are UTC."""

    def __init__(self, expression: str, zone: str = "Etc/UTC") -> None:
        """Raises `ValueError` for what `check_zone` refuses; `expression` is a checked one."""
        self._expression, self._zone = expression, _zone(zone)

    def after(self, moment: datetime) -> datetime | None:
        """The first one later than `moment`; None: not within fifty years."""
        return next(self._after(moment), None)

    def between(self, after: datetime, until: datetime, most: int) -> tuple[datetime, ...]:
        """Those in (after, until], the oldest first; of more than `most`, the newest."""
        found: tuple[datetime, ...] = ()
        for far in _LOOK_BACK:
            # From a year ago on, a schedule of each minute has half a million.
            start = max(after, until - far)
            found = tuple(itertools.takewhile(lambda each: each <= until, self._after(start)))
            if len(found) >= most or start == after:
                break
        return found[-most:]

    def before(self, moment: datetime) -> datetime | None:
        """The last one earlier than `moment`; None: not within fifty years."""
        found = self.between(moment - _LOOK_BACK[-1], moment - timedelta(seconds=1), 1)
        return found[0] if found else None

    def _after(self, moment: datetime) -> Iterator[datetime]:
        # cronsim goes by wall clock: begun in the second of two equal hours it says times of the
        # first, and for two times inside a missing hour it says the end of that hour twice.
        last = moment
        for each in CronSim(self._expression, moment.astimezone(self._zone)):
            found = each.astimezone(UTC)
            if found > last:
                last = found
                yield found


@functools.cache
def _zone(name: str) -> ZoneInfo:
    try:
        return ZoneInfo(name)
    except (KeyError, ValueError, OSError):
        raise ValueError(
            f"{name!r} is not in the time zone database: write it as Europe/Berlin"
        ) from None
