"""Charts as SVG text, drawn by hand: a report needs four kinds, and no script to draw them.

Colours are classes of the page's style sheet, so that a chart follows light and dark. Each chart
carries a title and a description for those who cannot see it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from zeroskew.pages import svg
from zeroskew.pages.svg import Svg, num

TONES = ("good", "warn", "bad", "muted")


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
    cleaned = {name: svg.finite(xs, ys) for name, (xs, ys) in series.items()}
    every = [point for points_ in cleaned.values() for point in points_]
    x_low, x_high = x_range or svg.span([x for x, _ in every])
    y_low, y_high = y_range or svg.span([y for _, y in every])
    x_ticks, y_ticks = svg.ticks(x_low, x_high), svg.ticks(y_low, y_high)
    y_texts = svg.tick_texts(y_ticks)
    left = 22 + 7 * max(map(len, y_texts)) + (20 if y_label else 0)
    top, bottom, right = 44 + (22 if len(series) > 1 else 0), 52 if x_label else 32, 18
    plot_w, plot_h = width - left - right, height - top - bottom

    def px(x: float) -> float:
        return left + (x - x_low) / (x_high - x_low) * plot_w

    def py(y: float) -> float:
        return top + plot_h - (y - y_low) / (y_high - y_low) * plot_h

    parts = [svg.chart_name(title)]
    if len(series) > 1:
        parts.append(svg.legend([(name, f"f{svg.hue(i)}") for i, name in enumerate(series)], 36))
    for tick, text in zip(y_ticks, y_texts, strict=True):
        parts.append(svg.line(left, py(tick), left + plot_w, py(tick), "grid"))
        parts.append(svg.text(left - 8, py(tick) + 4, text, "end"))
    for tick, text in zip(x_ticks, svg.tick_texts(x_ticks), strict=True):
        parts.append(svg.line(px(tick), top + plot_h, px(tick), top + plot_h + 4, "axis"))
        parts.append(svg.text(px(tick), top + plot_h + 18, text, "middle"))
    parts.append(svg.line(left, top + plot_h, left + plot_w, top + plot_h, "axis"))
    if x_label:
        parts.append(svg.text(left + plot_w / 2, height - 8, x_label, "middle"))
    if y_label:
        x, y = 14, top + plot_h / 2
        turn = f' transform="rotate(-90 {num(x)} {num(y)})"'
        parts.append(svg.text(x, y, y_label, "middle", more=turn))
    if diagonal:
        low, high = max(x_low, y_low), min(x_high, y_high)
        if low < high:
            parts.append(svg.line(px(low), py(low), px(high), py(high), "diagonal"))
    for i, line in enumerate(cleaned.values()):
        inside = [(svg.clip(x, x_low, x_high), svg.clip(y, y_low, y_high)) for x, y in line]
        path = " ".join(
            f"{'L' if j else 'M'}{num(px(x))} {num(py(y))}" for j, (x, y) in enumerate(inside)
        )
        if path:
            parts.append(f'<path class="line s{svg.hue(i)}" d="{path}"/>')
        if points:
            parts += [
                f'<circle class="f{svg.hue(i)}" cx="{num(px(x))}" cy="{num(py(y))}" r="3.5"/>'
                for x, y in inside
            ]
    return svg.drawing(parts, width, height, title, description or _describe_lines(cleaned))


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
    before, after = svg.shares(reference), svg.shares(current)
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
    texts = list(texts) if texts is not None else [svg.value_text(value) for value in values]
    most = max(scale_to or max(finite, default=0.0), limit or 0.0) or 1.0
    left = 10 + min(max((svg.text_width(svg.cut(label, 28)) for label in labels), default=0), 210)
    gutter = 14 + max((svg.text_width(text) for text in texts), default=0)
    top, step = 34 + (20 if limit is not None else 0), 24
    height, plot_w = top + step * len(labels) + 12, width - left - gutter
    parts = [svg.chart_name(title)]
    for i, (label, value, text) in enumerate(zip(labels, finite, texts, strict=True)):
        y = top + i * step
        tone = tones[i] if tones is not None and tones[i] in TONES else "f1"
        parts.append(svg.text(left - 8, y + 16, svg.cut(label, 28), "end", "value"))
        length = max(min(value / most, 1.0) * plot_w, 1.0)
        if value > most * (1 + 1e-9):
            tip, h = left + length, step - 8
            parts.append(
                f'<path class="{tone}" d="M{num(left)} {num(y + 4)}H{num(tip - 8)}L{num(tip)} '
                f'{num(y + 4 + h / 2)}L{num(tip - 8)} {num(y + 4 + h)}H{num(left)}Z"/>'
            )
        else:
            parts.append(svg.rect(left, y + 4, length, step - 8, tone))
        parts.append(svg.text(width - 2, y + 16, text, "end", "value"))
    parts.append(svg.line(left, top, left, top + step * len(labels), "axis"))
    if limit is not None and labels:
        x = left + limit / most * plot_w
        side = "end" if x > width * 0.6 else "start"
        told = f"{limit_label} {svg.value_text(limit)}"
        parts.append(svg.line(x, top - 14, x, top + step * len(labels), "limit"))
        parts.append(
            svg.text(x + (5 if side == "start" else -5), top - 5, told, side, "limit-text")
        )
    told = ", ".join(f"{a}: {b}" for a, b in zip(labels, texts, strict=True))
    return svg.drawing(parts, width, height, title, description or told)


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
    ticks = svg.ticks(low, high, 4, beyond=True)
    high, low = max(high, ticks[-1]), min(low, ticks[0])
    tick_texts = [f"{100 * t:.4g} %" for t in ticks] if percent else svg.tick_texts(ticks)
    left = 14 + 7 * max(map(len, tick_texts)) + (20 if y_label else 0)
    plot_w = width - left - 12
    slot = plot_w / max(len(labels), 1)
    shown = [svg.cut(label, 22) for label in labels]
    lean = max(map(svg.text_width, shown), default=0) > slot - 6
    depth = 0.64 * max(map(svg.text_width, shown), default=0) + 16 if lean else 24
    top = 44 + (22 if len(series) > 1 else 0)
    plot_h = height - top - depth

    def py(value: float) -> float:
        return top + plot_h - (value - low) / (high - low) * plot_h

    parts = [svg.chart_name(title)]
    # The second of two series is the one to look at: it gets the accent colour.
    hues = ["f1"] if len(finite) == 1 else ["f2", "f1"]
    if len(finite) > 1:
        names = [name for name, _ in finite]
        parts.append(svg.legend(list(zip(names, hues, strict=True)), 36))
    for tick, text in zip(ticks, tick_texts, strict=True):
        parts.append(svg.line(left, py(tick), left + plot_w, py(tick), "grid"))
        parts.append(svg.text(left - 8, py(tick) + 4, text, "end"))
    bar = min(slot * 0.76, 90.0) / max(len(finite), 1)
    margin = (slot - bar * len(finite)) / 2
    for j, (_, values) in enumerate(finite):
        for i, value in enumerate(values):
            x = left + slot * i + margin + bar * j
            y, base = py(max(value, 0.0)), py(min(value, 0.0))
            parts.append(svg.rect(x, y, max(bar - 1, 0.5), base - y, hues[j]))
            if len(finite) == 1 and svg.text_width(svg.value_text(value)) < slot:
                above = y - 5 if value >= 0 else base + 14
                parts.append(svg.text(x + bar / 2, above, svg.value_text(value), "middle", "value"))
    parts.append(svg.line(left, py(0), left + plot_w, py(0), "axis"))
    every_nth = max(1, math.ceil(14 / slot)) if labels else 1
    for i, text in enumerate(shown):
        if i % every_nth:
            continue
        x, y = left + slot * (i + 0.5), top + plot_h + 16
        if lean:
            turn = f' transform="rotate(-38 {num(x + 4)} {num(y - 4)})"'
            parts.append(svg.text(x + 4, y - 4, text, "end", more=turn))
        else:
            parts.append(svg.text(x, y, text, "middle"))
    if y_label:
        y = top + plot_h / 2
        turn = f' transform="rotate(-90 12 {num(y)})"'
        parts.append(svg.text(12, y, y_label, "middle", more=turn))
    if not description:
        description = "; ".join(
            f"{name}: "
            + ", ".join(f"{a} {svg.value_text(b)}" for a, b in zip(labels, v, strict=True))
            for name, v in finite
        )
    return svg.drawing(parts, width, height, title, description)


def _describe_lines(series: Mapping[str, Sequence[tuple[float, float]]]) -> str:
    told = []
    for name, line in series.items():
        if line:
            (x0, y0), (x1, y1) = line[0], line[-1]
            told.append(f"{name}: from ({x0:.3g}, {y0:.3g}) to ({x1:.3g}, {y1:.3g})")
        else:
            told.append(f"{name}: no points")
    return "; ".join(told)
