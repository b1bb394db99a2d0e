"""Features computed when the question is asked, from the request and from stored features.

Plain functions from a dict of columns (lists of equal length) to a dict of columns, on nothing but
the standard library: Feast runs them in the training join, the server runs them on a batch of
requests. A missing value is None (or NaN, where a data frame came before); what cannot be computed
is None.

Feast's registry keeps the text of each function and runs it anywhere, without this module around
it. So a function here imports what it needs inside, and calls none of its neighbours.
"""

from __future__ import annotations


def scheduled_time(inputs: dict[str, list]) -> dict[str, list]:
    """Local time of day on a circle, so that 23:59 is near 00:00, and the day of the week.

    Inputs: `scheduled_minute`, minutes since local midnight; `scheduled_weekday`, 1 is Monday.
    """
    import math

    names = ["monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday"]
    sine, cosine, weekday, weekend = [], [], [], []
    for minute, day in zip(inputs["scheduled_minute"], inputs["scheduled_weekday"], strict=True):
        # `x == x` is false for NaN only.
        turn = 2 * math.pi * minute / 1440 if minute is not None and minute == minute else None
        sine.append(None if turn is None else math.sin(turn))
        cosine.append(None if turn is None else math.cos(turn))
        valid = day in (1, 2, 3, 4, 5, 6, 7)
        weekday.append(names[int(day) - 1] if valid else None)
        weekend.append(int(day >= 6) if valid else None)
    return {
        "hour_sine": sine,
        "hour_cosine": cosine,
        "weekday": weekday,
        "is_weekend": weekend,
    }


def planned_flight(inputs: dict[str, list]) -> dict[str, list]:
    """How far, and how generous the timetable is.

    Inputs: `distance` in miles; `scheduled_block`, minutes from scheduled departure to scheduled
    arrival. `planned_padding` is what the timetable leaves beyond half an hour on the ground and
    480 miles an hour in the air.
    """
    import math

    log_distance, planned_block, planned_padding = [], [], []
    for miles, minutes in zip(inputs["distance"], inputs["scheduled_block"], strict=True):
        far = float(miles) if miles is not None and miles > 0 else None
        long = float(minutes) if minutes is not None and minutes == minutes else None
        log_distance.append(None if far is None else math.log(far))
        planned_block.append(long)
        planned_padding.append(None if far is None or long is None else long - 30 - far / 8)
    return {
        "log_distance": log_distance,
        "planned_block": planned_block,
        "planned_padding": planned_padding,
    }


def aircraft_readiness(inputs: dict[str, list]) -> dict[str, list]:
    """Whether the aircraft can be back: time since its last known landing, less the way back.

    Inputs: `scheduled_departure` and `aircraft_last_landed`, seconds since 1970 UTC;
    `aircraft_last_block`, minutes. The data holds flights out of New York only, so the leg back is
    taken to be as long as the leg out. Capped at two days: longer says no more.
    """
    idle, slack = [], []
    for asked, landed, block in zip(
        inputs["scheduled_departure"],
        inputs["aircraft_last_landed"],
        inputs["aircraft_last_block"],
        strict=True,
    ):
        known = asked is not None and asked == asked and landed is not None and landed == landed
        minutes = min((asked - landed) / 60.0, 2880.0) if known else None
        back = block is not None and block == block
        idle.append(minutes)
        slack.append(minutes - block if known and back else None)
    return {"aircraft_idle": idle, "aircraft_slack": slack}
