"""The page: blocks in order, rendered by one template with everything escaped."""

from __future__ import annotations

import functools
import math
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from importlib.resources import files
from numbers import Number
from pathlib import Path
from typing import Any, Literal, Protocol

from jinja2 import Environment, StrictUndefined, Template
from markupsafe import Markup, escape

from zeroskew.errors import DataError
from zeroskew.pages.svg import Svg

Tone = Literal["good", "warn", "bad", "muted", "plain"]

# Control characters, which HTML forbids; tab and line ends stay.
_FORBIDDEN = {code: "\ufffd" for code in range(32) if code not in (9, 10, 13)} | {127: "\ufffd"}


class HasHtml(Protocol):
    """Markup that has escaped what it was made of."""

    def __html__(self) -> str: ...


@dataclass(frozen=True, slots=True)
class Badge:
    """A short word in a coloured pill; colour is never the only carrier of its meaning."""

    text: str
    tone: Tone = "plain"

    def __html__(self) -> str:
        return str(Markup('<span class="badge {}">{}</span>').format(self.tone, self.text))


@dataclass(frozen=True, slots=True)
class Tile:
    """A number that matters, with what it is and, if wanted, a remark below."""

    label: str
    value: Any
    note: str = ""
    tone: Tone = "plain"


def number_text(value: Any) -> str:
    """A number for people: grouped thousands, four significant digits, – for none."""
    if value is None:
        return "–"
    if isinstance(value, bool) or not isinstance(value, Number):
        return str(value)
    if isinstance(value, int) or (hasattr(value, "dtype") and value.dtype.kind in "iu"):  # type: ignore[attr-defined]
        return f"{int(value):,}"  # type: ignore[call-overload]
    number = float(value)  # type: ignore[arg-type]
    if math.isnan(number):
        return "–"
    if math.isinf(number):
        return "∞" if number > 0 else "−∞"
    if number.is_integer() and abs(number) < 1e15:
        return f"{number:,.0f}".replace("-", "−")
    if abs(number) >= 1000:
        return f"{number:,.1f}".replace("-", "−")
    return f"{number:.4g}".replace("-", "−")


class Page:
    """Blocks are added in order; every method returns the page, so that calls chain."""

    def __init__(self, title: str, subtitle: str = "", *, badge: Badge | None = None) -> None:
        self.title, self.subtitle, self.badge = title, subtitle, badge
        self._blocks: list[dict[str, Any]] = []

    def section(self, title: str, text: str = "") -> Page:
        """A heading, with an introducing sentence if given."""
        taken = [block["anchor"] for block in self._blocks if block["kind"] == "section"]
        anchor = _anchor(title)
        while anchor in taken:
            anchor += "-"
        return self._add("section", title=title, text=text, anchor=anchor)

    def contents(self) -> Page:
        """Links to all sections of the page, also those that are added later."""
        return self._add("contents")

    def text(self, text: str) -> Page:
        """A paragraph; empty lines part paragraphs."""
        return self._add("text", paragraphs=[p for p in text.split("\n\n") if p.strip()])

    def note(self, text: str, tone: Tone = "plain") -> Page:
        """A paragraph set apart, such as a verdict and its reason."""
        return self._add("note", text=text, tone=tone)

    def metrics(self, tiles: Mapping[str, Any] | Iterable[Tile]) -> Page:
        """A row of tiles; a mapping of label to value will do."""
        if isinstance(tiles, Mapping):
            tiles = [Tile(label, value) for label, value in tiles.items()]
        return self._add("metrics", tiles=list(tiles))

    def table(
        self,
        columns: Sequence[str],
        rows: Iterable[Sequence[Any]],
        *,
        caption: str = "",
        align: str = "",
    ) -> Page:
        """A table. Cells are text, numbers, badges or charts.

        `align` has one letter per column, l or r; without it a column of numbers stands right.
        Raises `ValueError` for a row that does not fit the columns.
        """
        body = [list(row) for row in rows]
        for row in body:
            if len(row) != len(columns):
                raise ValueError(f"{len(row)} cells do not fit {len(columns)} columns")
        if not align:
            align = "".join(_alignment([row[i] for row in body]) for i in range(len(columns)))
        return self._add(
            "table",
            columns=list(zip(columns, align, strict=True)),
            rows=[list(zip(map(_cell, row), align, strict=True)) for row in _even(body)],
            caption=caption,
        )

    def figure(self, svg: Svg, caption: str = "") -> Page:
        """A chart of this package, with a caption."""
        return self.figures([(svg, caption)])

    def figures(self, charts: Iterable[tuple[Svg, str]]) -> Page:
        """Charts with captions, side by side where there is room."""
        return self._add("figures", charts=list(charts))

    def draw(self, mark: HasHtml) -> Page:
        """Anything of this package that is its own markup, such as a heat map."""
        return self._add("drawn", mark=Markup(mark.__html__()))  # noqa: S704 - escaped by it

    def code(self, text: str) -> Page:
        """Text as typed: a command, a file."""
        return self._add("code", text=text)

    def render(self) -> str:
        """The whole page as HTML, safe to encode as UTF-8 whatever text went in."""
        html = _template().render(
            title=self.title,
            subtitle=self.subtitle,
            badge=self.badge,
            blocks=self._blocks,
            css=Markup(_resource("page.css")),  # noqa: S704 - our own file
        )
        return html.encode("utf-8", "replace").decode("utf-8").translate(_FORBIDDEN)

    def save(self, path: str | Path) -> None:
        """Write the page; the file appears whole or not at all."""
        target = Path(path)
        partial = target.with_name(f".{target.name}.{os.getpid()}.partial")
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            partial.write_text(self.render(), encoding="utf-8")
            partial.replace(target)
        except OSError as error:
            raise DataError(
                f"cannot be written: {error.strerror or error}", where=str(target)
            ) from None
        finally:
            with suppress(OSError):
                partial.unlink()

    def _add(self, kind: str, **content: Any) -> Page:
        self._blocks.append({"kind": kind, **content})
        return self


def _even(rows: list[list[Any]]) -> list[list[Any]]:
    """Rows with the fractions of each column at the same number of decimals."""
    columns = list(zip(*rows, strict=True))
    for i, cells in enumerate(columns):
        if _alignment(cells) == "l":
            continue
        texts = [number_text(cell) for cell in cells]
        places = [len(text.partition(".")[2]) for text in texts if "e" not in text]
        if max(places, default=0) and max(places) <= 6 and len(places) == len(texts):
            for row, cell, text in zip(rows, cells, texts, strict=True):
                if cell is not None and math.isfinite(float(cell)):
                    text = f"{float(cell):,.{max(places)}f}".replace("-", "−")
                row[i] = text
    return rows


def _cell(value: Any) -> Markup:
    return escape(value) if hasattr(value, "__html__") else escape(number_text(value))


def _alignment(cells: Sequence[Any]) -> str:
    seen = [cell for cell in cells if cell is not None]
    numeric = all(isinstance(cell, Number) and not isinstance(cell, bool) for cell in seen)
    return "r" if seen and numeric else "l"


def _anchor(title: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", title.lower()).strip("-") or "section"


def _resource(name: str) -> str:
    return (files("zeroskew.pages") / name).read_text(encoding="utf-8")


@functools.cache
def _template() -> Template:
    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters["number"] = number_text
    return environment.from_string(_resource("page.html"))
