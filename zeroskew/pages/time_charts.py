"""Charts of values with their intervals: over time as lines with bands, or one by one."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from zeroskew.pages import svg
from zeroskew.pages.svg import Svg, num

_STEPS = tuple(
    timedelta(hours=hours) for hours in (1, 2, 3, 6, 12, 24, 48, 72, 168, 336, 720, 2160, 8760)
)


@dataclass(frozen=True, slots=True)
class TimePoint:
    """A value of one moment, with the ends of its interval."""

    at: datetime
    value: float
    low: float = math.nan
    high: float = math.nan


def band_chart(
    series: Mapping[str, Sequence[TimePoint]],
    *,
    title: str,
    description: str = "",
    y_label: str = "",
    width: int = 760,
    height: int = 320,
) -> Svg:
    """Lines over time, each with a band between its intervals' ends.

    Points in order; those whose value is not finite break the line.
    """
    points = [p for line in series.values() for p in line if math.isfinite(p.value)]
    values = [v for p in points for v in (p.low, p.value, p.high) if math.isfinite(v)]
    y_low, y_high = svg.span(values)
    room = (y_high - y_low) * 0.06
    y_low, y_high = y_low - room, y_high + room
    first = min((p.at for p in points), default=datetime(2000, 1, 1, tzinfo=UTC))
    last = max((p.at for p in points), default=first)
    if first == last:
        first, last = first - timedelta(hours=12), last + timedelta(hours=12)
    seconds = (last - first).total_seconds()
    y_ticks = svg.ticks(y_low, y_high)
    y_texts = svg.tick_texts(y_ticks)
    left = 22 + 7 * max(map(len, y_texts)) + (20 if y_label else 0)
    top, bottom, right = 44 + (22 if len(series) > 1 else 0), 34, 26
    plot_w, plot_h = width - left - right, height - top - bottom

    def px(at: datetime) -> float:
        return left + (at - first).total_seconds() / seconds * plot_w

    def py(value: float) -> float:
        return top + plot_h - (value - y_low) / (y_high - y_low) * plot_h

    parts = [svg.chart_name(title)]
    if len(series) > 1:
        parts.append(svg.legend([(name, f"f{svg.hue(i)}") for i, name in enumerate(series)], 36))
    for tick, said in zip(y_ticks, y_texts, strict=True):
        parts.append(svg.line(left, py(tick), left + plot_w, py(tick), "grid"))
        parts.append(svg.text(left - 8, py(tick) + 4, said, "end"))
    for at, said in time_ticks(first, last):
        parts.append(svg.line(px(at), top + plot_h, px(at), top + plot_h + 4, "axis"))
        parts.append(svg.text(px(at), top + plot_h + 18, said, "middle"))
    parts.append(svg.line(left, top + plot_h, left + plot_w, top + plot_h, "axis"))
    if y_label:
        turn = f' transform="rotate(-90 14 {num(top + plot_h / 2)})"'
        parts.append(svg.text(14, top + plot_h / 2, y_label, "middle", more=turn))
    unbroken = {name: _unbroken(line) for name, line in series.items()}
    for i, runs in enumerate(unbroken.values()):
        hue = svg.hue(i)
        for run in runs:
            ends = [p for p in run if math.isfinite(p.low) and math.isfinite(p.high)]
            if len(ends) > 1:
                there = " ".join(f"{num(px(p.at))},{num(py(p.high))}" for p in ends)
                back = " ".join(f"{num(px(p.at))},{num(py(p.low))}" for p in reversed(ends))
                parts.append(f'<polygon class="band f{hue}" points="{there} {back}"/>')
            path = " ".join(
                f"{'L' if j else 'M'}{num(px(p.at))} {num(py(p.value))}" for j, p in enumerate(run)
            )
            parts.append(f'<path class="line s{hue}" d="{path}"/>')
            parts += [
                f'<circle class="f{hue}" cx="{num(px(p.at))}" cy="{num(py(p.value))}" r="3">'
                f"<title>{p.at:%Y-%m-%d %H:%M}: {_interval(p)}</title></circle>"
                for p in run
            ]
    told = "; ".join(
        f"{name}: {_interval(runs[-1][-1])} on {runs[-1][-1].at:%Y-%m-%d}"
        for name, runs in unbroken.items()
        if runs
    )
    return svg.drawing(parts, width, height, title, description or told)


def interval_chart(
    labels: Sequence[str],
    points: Sequence[tuple[float, float, float]],
    *,
    title: str,
    description: str = "",
    marked: Sequence[bool] | None = None,
    width: int = 760,
) -> Svg:
    """A row per label: the value as a dot, its interval (value, low, high) as a bar.

    Ends that are not finite are left out; `marked` rows get the accent colour.
    """
    values = [v for point in points for v in point if math.isfinite(v)]
    low, high = svg.span(values)
    room = (high - low) * 0.06
    ticks = svg.ticks(low - room, high + room)
    low, high = min(low - room, ticks[0]), max(high + room, ticks[-1])
    left = 12 + min(max((svg.text_width(svg.cut(each, 26)) for each in labels), default=0), 190)
    right, top, step = 62, 34, 24
    plot_w, bottom = width - left - right, top + step * len(labels)

    def px(value: float) -> float:
        return left + (value - low) / (high - low) * plot_w

    parts = [svg.chart_name(title)]
    for tick, said in zip(ticks, svg.tick_texts(ticks), strict=True):
        parts.append(svg.line(px(tick), top, px(tick), bottom, "grid"))
        parts.append(svg.text(px(tick), bottom + 16, said, "middle"))
    for i, (label, (value, least, most)) in enumerate(zip(labels, points, strict=True)):
        y, hue = top + step * (i + 0.5), "f1" if marked is None or marked[i] else "f2"
        parts.append(svg.text(left - 10, y + 4, svg.cut(label, 26), "end", "value"))
        if not math.isfinite(value):
            parts.append(svg.text(left + 6, y + 4, "not recorded", "start"))
            continue
        if math.isfinite(least) and math.isfinite(most):
            parts.append(svg.rect(px(least), y - 3, px(most) - px(least), 6, f"band {hue}"))
        parts.append(f'<circle class="{hue}" cx="{num(px(value))}" cy="{num(y)}" r="4.5"/>')
        parts.append(svg.text(width - 2, y + 4, f"{value:.4f}", "end", "value"))
    told = "; ".join(f"{a}: {b[0]:.4f}" for a, b in zip(labels, points, strict=True))
    return svg.drawing(parts, width, bottom + 24, title, description or told)


def sparkline(values: Sequence[float], *, title: str, width: int = 150, height: int = 26) -> Svg:
    """A small line without axes, from zero up; values that are not finite break it."""
    finite = [value for value in values if math.isfinite(value)]
    most = max(finite, default=0.0) or 1.0
    step = (width - 6) / max(len(values) - 1, 1)
    parts, fresh, path = [], True, ""
    for i, value in enumerate(values):
        if math.isfinite(value):
            x, y = 3 + i * step, height - 3 - value / most * (height - 6)
            path += f"{'M' if fresh else 'L'}{num(x)} {num(y)}"
            last = (x, y)
        fresh = not math.isfinite(value)
    if path:
        parts.append(f'<path class="line s1" d="{path}"/>')
        parts.append(f'<circle class="f1" cx="{num(last[0])}" cy="{num(last[1])}" r="2.5"/>')
    return svg.drawing(parts, width, height, title, title, "chart spark")


def time_ticks(first: datetime, last: datetime, about: int = 7) -> list[tuple[datetime, str]]:
    """Even moments (UTC) between the two, at most about so many, with their labels."""
    apart = (last - first) / about
    step = next((each for each in _STEPS if each >= apart), _STEPS[-1])
    day = step >= timedelta(days=1)
    form = "%d %b %Y" if last - first > timedelta(days=300) else "%d %b" if day else "%d %b %H:%M"
    start = first.replace(minute=0, second=0, microsecond=0)
    start = start.replace(hour=0 if day else start.hour - start.hour % max(1, step.seconds // 3600))
    found = []
    while start <= last:
        if start >= first:
            found.append((start, start.strftime(form)))
        start += step
    return found


def _unbroken(line: Sequence[TimePoint]) -> list[list[TimePoint]]:
    runs: list[list[TimePoint]] = [[]]
    for point in line:
        if math.isfinite(point.value):
            runs[-1].append(point)
        elif runs[-1]:
            runs.append([])
    return [run for run in runs if run]


def _interval(point: TimePoint) -> str:
    if not math.isfinite(point.low) or not math.isfinite(point.high):
        return f"{point.value:.4g}"
    return f"{point.value:.4g} ({point.low:.4g} to {point.high:.4g})"
