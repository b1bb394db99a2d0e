"""A table of numbers by row and column, coloured by band: text first, so that it is read, searched
and printed like any other, and works without a script or colours.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

from markupsafe import Markup, escape

Heat = Literal["none", "unsure", "cool", "mild", "warm", "hot", "burning"]
"""No value; one that may be chance; and five bands."""


@dataclass(frozen=True, slots=True)
class HeatCell:
    """One number."""

    text: str
    heat: Heat
    more: str = ""
    """Shown while the pointer rests on it."""


@dataclass(frozen=True, slots=True)
class HeatRow:
    name: str
    cells: Sequence[HeatCell]


@dataclass(frozen=True, slots=True)
class HeatMap:
    """Rows in the order given; those after the first `open_rows` are folded below `fold_text`."""

    columns: Sequence[tuple[str, str]]
    """Two lines of each head; the upper one may be empty."""
    rows: Sequence[HeatRow]
    caption: str
    corner: str = ""
    """Head of the names."""
    top: Sequence[str] = field(default_factory=tuple)
    """A text above each column, such as how much it is made of."""
    top_name: str = ""
    open_rows: int = 30
    fold_text: str = "more"
    wide: int = 0
    """So many columns at the left are set apart."""

    def __html__(self) -> str:
        shown, folded = self.rows[: self.open_rows], self.rows[self.open_rows :]
        html = self._table(shown, self.caption)
        if folded:
            html += (
                f"<details><summary>{escape(self.fold_text)}</summary>"
                f"{self._table(folded, self.fold_text)}</details>"
            )
        return Markup(html)  # noqa: S704 - escaped piece by piece

    def _table(self, rows: Sequence[HeatRow], caption: str) -> str:
        heads = "".join(
            f'<th scope="col"{self._apart(i)}>{escape(upper) or "&nbsp;"}<br>{escape(lower)}</th>'
            for i, (upper, lower) in enumerate(self.columns)
        )
        top = ""
        if self.top:
            told = "".join(
                f"<td{self._apart(i)}>{escape(text)}</td>" for i, text in enumerate(self.top)
            )
            top = f'<tr class="top"><th scope="row">{escape(self.top_name)}</th>{told}</tr>'
        body = "".join(
            f'<tr><th scope="row">{escape(row.name)}</th>'
            + "".join(self._cell(i, cell) for i, cell in enumerate(row.cells))
            + "</tr>\n"
            for row in rows
        )
        return (
            f'<div class="scroll newest" tabindex="0" role="region" aria-label="{escape(caption)}">'
            f'<table class="heat"><thead><tr><th scope="col">{escape(self.corner)}</th>{heads}'
            f"</tr>{top}</thead><tbody>{body}</tbody></table></div>"
        )

    def _cell(self, index: int, cell: HeatCell) -> str:
        apart = " apart" if index == self.wide - 1 else ""
        title = f' title="{escape(cell.more)}"' if cell.more else ""
        return f'<td class="h-{cell.heat}{apart}"{title}>{escape(cell.text)}</td>'

    def _apart(self, index: int) -> str:
        return ' class="apart"' if index == self.wide - 1 else ""


@dataclass(frozen=True, slots=True)
class HeatKey:
    """What the colours mean."""

    entries: Sequence[tuple[Heat, str]]

    def __html__(self) -> str:
        items = "".join(
            f'<li><span class="h-{heat}"></span>{escape(text)}</li>' for heat, text in self.entries
        )
        return Markup(f'<ul class="heat-key">{items}</ul>')  # noqa: S704 - escaped above
