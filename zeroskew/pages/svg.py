"""The parts that charts are drawn of: SVG text with the classes of the page's style sheet.

Lengths are in the drawing's own units, which are pixels at its full width. Everything that is
written is escaped.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from markupsafe import Markup, escape


class Svg(Markup):
    """A finished chart: markup that a page takes as it is."""


def drawing(
    parts: Sequence[str],
    width: float,
    height: float,
    title: str,
    description: str,
    kind: str = "chart",
) -> Svg:
    """The whole chart; title and description are what is read out, `kind` is its classes."""
    head = (
        f'<svg class="{kind}" role="img" viewBox="0 0 {num(width)} {num(height)}" '
        f'xmlns="http://www.w3.org/2000/svg"><title>{escape(title)}</title>'
        f"<desc>{escape(description)}</desc>"
    )
    return Svg(head + "".join(parts) + "</svg>")


def chart_name(title: str) -> str:
    """The title above a chart."""
    return text(0, 16, cut(title, 64), "start", "name")


def legend(entries: Sequence[tuple[str, str]], y: float) -> str:
    """Names with their colour classes, in a row."""
    parts, x = [], 0.0
    for name, hue in entries:
        parts.append(rect(x, y - 9, 10, 10, hue))
        parts.append(text(x + 15, y, cut(name, 24), "start", "value"))
        x += 15 + text_width(cut(name, 24)) + 18
    return "".join(parts)


def text(x: float, y: float, text: str, anchor: str, kind: str = "", *, more: str = "") -> str:
    style = f' class="{kind}"' if kind else ""
    return (
        f'<text x="{num(x)}" y="{num(y)}" text-anchor="{anchor}"{style}{more}>{escape(text)}</text>'
    )


def line(x1: float, y1: float, x2: float, y2: float, kind: str) -> str:
    return f'<line class="{kind}" x1="{num(x1)}" y1="{num(y1)}" x2="{num(x2)}" y2="{num(y2)}"/>'


def rect(x: float, y: float, width: float, height: float, kind: str) -> str:
    return (
        f'<rect class="{kind}" x="{num(x)}" y="{num(y)}" width="{num(width)}" '
        f'height="{num(max(height, 0))}" rx="1.5"/>'
    )


def num(value: float) -> str:
    """A coordinate."""
    return f"{value:.1f}".removesuffix(".0")


def hue(index: int) -> int:
    """Number of the colour of a series: classes f1 to f4 fill, s1 to s4 draw."""
    return index % 4 + 1


def cut(text: Any, longest: int) -> str:
    text = str(text)
    return text if len(text) <= longest else text[: longest - 1] + "…"


def text_width(text: str) -> float:
    """About how wide a text of 12 pixels is; fonts differ by a few per cent."""
    return 6.6 * len(text)


def value_text(value: float) -> str:
    """Three significant digits, – where there is no number."""
    return "–" if not math.isfinite(value) else f"{value:.3g}".replace("-", "−")


def finite(xs: Sequence[float], ys: Sequence[float]) -> list[tuple[float, float]]:
    """The points of which both coordinates are numbers."""
    pairs = ((float(x), float(y)) for x, y in zip(xs, ys, strict=True))
    return [(x, y) for x, y in pairs if math.isfinite(x) and math.isfinite(y)]


def shares(counts: Sequence[float]) -> list[float]:
    """Counts as parts of one."""
    total = math.fsum(counts)
    return [count / total if total else 0.0 for count in counts]


def clip(value: float, low: float, high: float) -> float:
    return min(max(value, low), high)


def span(values: Sequence[float]) -> tuple[float, float]:
    """Least and greatest value, kept apart."""
    if not values:
        return 0.0, 1.0
    low, high = min(values), max(values)
    if low == high:
        pad = abs(low) * 0.05 or 0.5
        return low - pad, high + pad
    return low, high


def ticks(low: float, high: float, about: int = 5, beyond: bool = False) -> list[float]:
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


def tick_texts(ticks: Sequence[float]) -> list[str]:
    step = ticks[1] - ticks[0] if len(ticks) > 1 else abs(ticks[0]) or 1.0
    largest = max(abs(tick) for tick in ticks)
    if largest >= 1e6 or (0 < largest < 1e-3):
        return [f"{tick:.3g}".replace("-", "−") for tick in ticks]
    places = max(0, -math.floor(math.log10(step) + 1e-9))
    if places and abs(step * 10**places - round(step * 10**places)) > 1e-6:
        places += 1  # a step of 0.25
    return [f"{tick:,.{places}f}".replace("-", "−") for tick in ticks]
