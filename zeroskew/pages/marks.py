"""Small pieces of markup inside a page: a chain of steps, and links to other pages."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup, escape

# A scheme other than these could run something, or leak where the page was opened.
_HARMLESS = re.compile(r"""^(https?://[^\s"'<>]+|(?!//)[^\s:?#\\"'<>]+([?#][^\s"'<>]*)?)$""")


@dataclass(frozen=True, slots=True)
class Link:
    """A link by http(s) or to a relative address; anything else is shown as its text alone."""

    text: str
    address: str

    def __html__(self) -> str:
        if not _HARMLESS.match(self.address):
            return str(escape(self.text))
        return str(Markup('<a href="{}" rel="noreferrer">{}</a>').format(self.address, self.text))


@dataclass(frozen=True, slots=True)
class Chain:
    """Steps that lead to one another: what each is, what it was here, and a remark."""

    steps: Sequence[tuple[str, str, str]]

    def __html__(self) -> str:
        items = Markup("").join(
            Markup("<li><span>{}</span><b>{}</b>{}</li>").format(
                name, value, Markup("<i>{}</i>").format(remark) if remark else ""
            )
            for name, value, remark in self.steps
        )
        return str(Markup('<ol class="chain">{}</ol>').format(items))
