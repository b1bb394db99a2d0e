"""Charts as SVG text, drawn by hand: a report needs four kinds, and no script to draw them.

Colours are classes of the page's style sheet, so that a chart follows light and dark. Each chart
carries a title and a description for those who cannot see it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from markupsafe import Markup, escape

TONES = ("good", "warn", "bad", "muted")


class Svg(Markup):
    """A finished chart: markup that a page takes as it is."""


def line_chart(
    series: Mapping[str, tuple[Sequence[float], Sequence[float]]],
    *,
    title: str,
    description: str = "",
    x_label: str = "",
    y_label: str = "",
    x_range: tuple[float, float] | None = None,
    y_range: tuple[float, float] | None = None,
    diagonal: bool = False,
    points: bool = False,
    width: int = 520,
    height: int = 380,
) -> Svg:
    """Lines over two numeric axes, such as ROC or calibration.

    `series` maps a name to x and y values of equal length; points that are not finite are left
    out. `diagonal` draws y = x (chance, perfect calibration); `points` marks the measured values.
    """
    cleaned = {name: _finite(xs, ys) for name, (xs, ys) in series.items()}
    every = [point for points_ in cleaned.values() for point in points_]
    x_low, x_high = x_range or _span([x for x, _ in every])
    y_low, y_high = y_range or _span([y for _, y in every])
    x_ticks, y_ticks = _ticks(x_low, x_high), _ticks(y_low, y_high)
    y_texts = _tick_texts(y_ticks)
    left = 22 + 7 * max(map(len, y_texts)) + (20 if y_label else 0)
    top, bottom, right = 44 + (22 if len(series) > 1 else 0), 52 if x_label else 32, 18
    plot_w, plot_h = width - left - right, height - top - bottom

    def px(x: float) -> float:
        return left + (x - x_low) / (x_high - x_low) * plot_w

    def py(y: float) -> float:
        return top + plot_h - (y - y_low) / (y_high - y_low) * plot_h

    parts = [_name(title)]
    if len(series) > 1:
        parts.append(_legend([(name, f"f{_hue(i)}") for i, name in enumerate(series)], 36))
    for tick, text in zip(y_ticks, y_texts, strict=True):
        parts.append(_line(left, py(tick), left + plot_w, py(tick), "grid"))
        parts.append(_text(left - 8, py(tick) + 4, text, "end"))
    for tick, text in zip(x_ticks, _tick_texts(x_ticks), strict=True):
        parts.append(_line(px(tick), top + plot_h, px(tick), top + plot_h + 4, "axis"))
        parts.append(_text(px(tick), top + plot_h + 18, text, "middle"))
    parts.append(_line(left, top + plot_h, left + plot_w, top + plot_h, "axis"))
    if x_label:
        parts.append(_text(left + plot_w / 2, height - 8, x_label, "middle"))
    if y_label:
        x, y = 14, top + plot_h / 2
        turn = f' transform="rotate(-90 {_n(x)} {_n(y)})"'
        parts.append(_text(x, y, y_label, "middle", more=turn))
    if diagonal:
        low, high = max(x_low, y_low), min(x_high, y_high)
        if low < high:
            parts.append(_line(px(low), py(low), px(high), py(high), "diagonal"))
    for i, line in enumerate(cleaned.values()):
        inside = [(_clip(x, x_low, x_high), _clip(y, y_low, y_high)) for x, y in line]
        path = " ".join(
            f"{'L' if j else 'M'}{_n(px(x))} {_n(py(y))}" for j, (x, y) in enumerate(inside)
        )
        if path:
            parts.append(f'<path class="line s{_hue(i)}" d="{path}"/>')
        if points:
            parts += [
                f'<circle class="f{_hue(i)}" cx="{_n(px(x))}" cy="{_n(py(y))}" r="3.5"/>'
                for x, y in inside
            ]
    return _svg(parts, width, height, title, description or _describe_lines(cleaned))


def bar_chart(
    labels: Sequence[str],
    values: Sequence[float],
    *,
    title: str,
    description: str = "",
    y_label: str = "",
    width: int = 520,
    height: int = 300,
) -> Svg:
    """Vertical bars from zero, one per label; values that are not finite have no bar."""
    return _columns(
        labels, [(y_label or "value", values)], title, description, y_label, width, height
    )


def paired_histogram(
    labels: Sequence[str],
    reference: Sequence[float],
    current: Sequence[float],
    *,
    title: str,
    description: str = "",
    names: tuple[str, str] = ("reference", "current"),
    y_label: str = "share of rows",
    width: int = 520,
    height: int = 300,
) -> Svg:
    """Two distributions over the same bins, side by side, each scaled to shares of its rows."""
    before, after = _shares(reference), _shares(current)
    if not description:
        moved = [abs(a - b) for a, b in zip(before, after, strict=True)]
        if moved:
            widest = max(range(len(moved)), key=moved.__getitem__)
            description = (
                f"Largest difference in bin {labels[widest]}: {names[0]} {before[widest]:.1%}, "
                f"{names[1]} {after[widest]:.1%} of rows"
            )
    shares = [(names[0], before), (names[1], after)]
    return _columns(labels, shares, title, description, y_label, width, height, percent=True)


def horizontal_bars(
    labels: Sequence[str],
    values: Sequence[float],
    *,
    title: str,
    description: str = "",
    limit: float | None = None,
    limit_label: str = "limit",
    scale_to: float | None = None,
    tones: Sequence[str] | None = None,
    texts: Sequence[str] | None = None,
    width: int = 640,
) -> Svg:
    """Bars from zero to the right with their values, for ranking; `limit` is a dashed line.

    `scale_to` is the value of a full-length bar (default: the largest); longer ones end in a
    point, so that one giant does not flatten the others. `tones` colours each bar (good, warn,
    bad, muted); `texts` replaces the values at the right edge.
    """
    finite = [max(0.0, value) if math.isfinite(value) else 0.0 for value in map(float, values)]
    texts = list(texts) if texts is not None else [_short(value) for value in values]
    most = max(scale_to or max(finite, default=0.0), limit or 0.0) or 1.0
    left = 10 + min(max((_width(_cut(label, 28)) for label in labels), default=0), 210)
    gutter = 14 + max((_width(text) for text in texts), default=0)
    top, step = 34 + (20 if limit is not None else 0), 24
    height, plot_w = top + step * len(labels) + 12, width - left - gutter
    parts = [_name(title)]
    for i, (label, value, text) in enumerate(zip(labels, finite, texts, strict=True)):
        y = top + i * step
        tone = tones[i] if tones is not None and tones[i] in TONES else "f1"
        parts.append(_text(left - 8, y + 16, _cut(label, 28), "end", "value"))
        length = max(min(value / most, 1.0) * plot_w, 1.0)
        if value > most * (1 + 1e-9):
            tip, h = left + length, step - 8
            parts.append(
                f'<path class="{tone}" d="M{_n(left)} {_n(y + 4)}H{_n(tip - 8)}L{_n(tip)} '
                f'{_n(y + 4 + h / 2)}L{_n(tip - 8)} {_n(y + 4 + h)}H{_n(left)}Z"/>'
            )
        else:
            parts.append(_rect(left, y + 4, length, step - 8, tone))
        parts.append(_text(width - 2, y + 16, text, "end", "value"))
    parts.append(_line(left, top, left, top + step * len(labels), "axis"))
    if limit is not None and labels:
        x = left + limit / most * plot_w
        side = "end" if x > width * 0.6 else "start"
        told = f"{limit_label} {_short(limit)}"
        parts.append(_line(x, top - 14, x, top + step * len(labels), "limit"))
        parts.append(_text(x + (5 if side == "start" else -5), top - 5, told, side, "limit-text"))
    told = ", ".join(f"{a}: {b}" for a, b in zip(labels, texts, strict=True))
    return _svg(parts, width, height, title, description or told)


def _columns(
    labels: Sequence[str],
    series: Sequence[tuple[str, Sequence[float]]],
    title: str,
    description: str,
    y_label: str,
    width: int,
    height: int,
    percent: bool = False,
) -> Svg:
    """Grouped vertical bars; labels lean when they do not fit side by side."""
    finite = [
        (name, [float(v) if math.isfinite(v) else 0.0 for v in values]) for name, values in series
    ]
    every = [value for _, values in finite for value in values]
    low, high = min([0.0, *every]), max([0.0, *every])
    if low == high:
        high = low + 1.0
    ticks = _ticks(low, high, 4, beyond=True)
    high, low = max(high, ticks[-1]), min(low, ticks[0])
    tick_texts = [f"{100 * t:.4g} %" for t in ticks] if percent else _tick_texts(ticks)
    left = 14 + 7 * max(map(len, tick_texts)) + (20 if y_label else 0)
    plot_w = width - left - 12
    slot = plot_w / max(len(labels), 1)
    shown = [_cut(label, 22) for label in labels]
    lean = max(map(_width, shown), default=0) > slot - 6
    depth = 0.64 * max(map(_width, shown), default=0) + 16 if lean else 24
    top = 44 + (22 if len(series) > 1 else 0)
    plot_h = height - top - depth

    def py(value: float) -> float:
        return top + plot_h - (value - low) / (high - low) * plot_h

    parts = [_name(title)]
    # The second of two series is the one to look at: it gets the accent colour.
    hues = ["f1"] if len(finite) == 1 else ["f2", "f1"]
    if len(finite) > 1:
        names = [name for name, _ in finite]
        parts.append(_legend(list(zip(names, hues, strict=True)), 36))
    for tick, text in zip(ticks, tick_texts, strict=True):
        parts.append(_line(left, py(tick), left + plot_w, py(tick), "grid"))
        parts.append(_text(left - 8, py(tick) + 4, text, "end"))
    bar = min(slot * 0.76, 90.0) / max(len(finite), 1)
    margin = (slot - bar * len(finite)) / 2
    for j, (_, values) in enumerate(finite):
        for i, value in enumerate(values):
            x = left + slot * i + margin + bar * j
            y, base = py(max(value, 0.0)), py(min(value, 0.0))
            parts.append(_rect(x, y, max(bar - 1, 0.5), base - y, hues[j]))
            if len(finite) == 1 and _width(_short(value)) < slot:
                above = y - 5 if value >= 0 else base + 14
                parts.append(_text(x + bar / 2, above, _short(value), "middle", "value"))
    parts.append(_line(left, py(0), left + plot_w, py(0), "axis"))
    every_nth = max(1, math.ceil(14 / slot)) if labels else 1
    for i, text in enumerate(shown):
        if i % every_nth:
            continue
        x, y = left + slot * (i + 0.5), top + plot_h + 16
        if lean:
            turn = f' transform="rotate(-38 {_n(x + 4)} {_n(y - 4)})"'
            parts.append(_text(x + 4, y - 4, text, "end", more=turn))
        else:
            parts.append(_text(x, y, text, "middle"))
    if y_label:
        y = top + plot_h / 2
        turn = f' transform="rotate(-90 12 {_n(y)})"'
        parts.append(_text(12, y, y_label, "middle", more=turn))
    if not description:
        description = "; ".join(
            f"{name}: " + ", ".join(f"{a} {_short(b)}" for a, b in zip(labels, v, strict=True))
            for name, v in finite
        )
    return _svg(parts, width, height, title, description)


def _svg(parts: Sequence[str], width: float, height: float, title: str, description: str) -> Svg:
    head = (
        f'<svg class="chart" role="img" viewBox="0 0 {_n(width)} {_n(height)}" '
        f'xmlns="http://www.w3.org/2000/svg"><title>{escape(title)}</title>'
        f"<desc>{escape(description)}</desc>"
    )
    return Svg(head + "".join(parts) + "</svg>")


def _name(title: str) -> str:
    return _text(0, 16, _cut(title, 64), "start", "name")


def _legend(entries: Sequence[tuple[str, str]], y: float) -> str:
    parts, x = [], 0.0
    for name, hue in entries:
        parts.append(_rect(x, y - 9, 10, 10, hue))
        parts.append(_text(x + 15, y, _cut(name, 24), "start", "value"))
        x += 15 + _width(_cut(name, 24)) + 18
    return "".join(parts)


def _text(x: float, y: float, text: str, anchor: str, kind: str = "", *, more: str = "") -> str:
    style = f' class="{kind}"' if kind else ""
    return (
        f'<text x="{_n(x)}" y="{_n(y)}" text-anchor="{anchor}"{style}{more}>{escape(text)}</text>'
    )


def _line(x1: float, y1: float, x2: float, y2: float, kind: str) -> str:
    return f'<line class="{kind}" x1="{_n(x1)}" y1="{_n(y1)}" x2="{_n(x2)}" y2="{_n(y2)}"/>'


def _rect(x: float, y: float, width: float, height: float, kind: str) -> str:
    return (
        f'<rect class="{kind}" x="{_n(x)}" y="{_n(y)}" width="{_n(width)}" '
        f'height="{_n(max(height, 0))}" rx="1.5"/>'
    )


def _n(value: float) -> str:
    return f"{value:.1f}".removesuffix(".0")


def _hue(index: int) -> int:
    return index % 4 + 1


def _cut(text: Any, longest: int) -> str:
    text = str(text)
    return text if len(text) <= longest else text[: longest - 1] + "…"


def _width(text: str) -> float:
    """About how wide a text of 12 pixels is; fonts differ by a few per cent."""
    return 6.6 * len(text)


def _short(value: float) -> str:
    return "–" if not math.isfinite(value) else f"{value:.3g}".replace("-", "−")


def _finite(xs: Sequence[float], ys: Sequence[float]) -> list[tuple[float, float]]:
    pairs = ((float(x), float(y)) for x, y in zip(xs, ys, strict=True))
    return [(x, y) for x, y in pairs if math.isfinite(x) and math.isfinite(y)]


def _shares(counts: Sequence[float]) -> list[float]:
    total = math.fsum(counts)
    return [count / total if total else 0.0 for count in counts]


def _clip(value: float, low: float, high: float) -> float:
    return min(max(value, low), high)


def _span(values: Sequence[float]) -> tuple[float, float]:
    if not values:
        return 0.0, 1.0
    low, high = min(values), max(values)
    if low == high:
        pad = abs(low) * 0.05 or 0.5
        return low - pad, high + pad
    return low, high


def _ticks(low: float, high: float, about: int = 5, beyond: bool = False) -> list[float]:
    """Round numbers within `low` and `high`; `beyond` adds those just outside."""
    raw = (high - low) / about
    if not math.isfinite(raw) or raw <= 0:
        return [low]
    scale = 10.0 ** math.floor(math.log10(raw))
    step = next(m * scale for m in (1, 2, 2.5, 5, 10) if m * scale >= raw * 0.999)
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    if beyond:
        first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [k * step for k in range(first, last + 1)] or [low]


def _tick_texts(ticks: Sequence[float]) -> list[str]:
    step = ticks[1] - ticks[0] if len(ticks) > 1 else abs(ticks[0]) or 1.0
    largest = max(abs(tick) for tick in ticks)
    if largest >= 1e6 or (0 < largest < 1e-3):
        return [f"{tick:.3g}".replace("-", "−") for tick in ticks]
    places = max(0, -math.floor(math.log10(step) + 1e-9))
    if places and abs(step * 10**places - round(step * 10**places)) > 1e-6:
        places += 1  # a step of 0.25
    return [f"{tick:,.{places}f}".replace("-", "−") for tick in ticks]


def _describe_lines(series: Mapping[str, Sequence[tuple[float, float]]]) -> str:
    told = []
    for name, line in series.items():
        if line:
            (x0, y0), (x1, y1) = line[0], line[-1]
            told.append(f"{name}: from ({x0:.3g}, {y0:.3g}) to ({x1:.3g}, {y1:.3g})")
        else:
            told.append(f"{name}: no points")
    return "; ".join(told)
