"""The pages of the documentation, taken apart into what can be checked.

A comment before a fenced block says what cannot be seen from the block itself:

    <!-- run -->                 sh or python, run here as it stands, in an empty folder
    <!-- client: NAME -->        run against a served model, by tests/integration/serving
    <!-- yaml: KIND -->          what a YAML block is, where it does not say so itself; see KINDS
"""

import re
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
ELSEWHERE = (
    "README.md", "manifests/README.md", "manifests/gitops/README.md", "charts/zeroskew/README.md",
    "pipelines/README.md", "pipelines/flight_delay/README.md", "images/README.md",
)  # fmt: skip
"""Pages beside those of docs/."""
_FENCE = re.compile(r"^(\s*)(```+|~~~+)\s*(\S*)")
_COMMENT = re.compile(r"^\s*<!--\s*(.*?)\s*-->\s*$")


@dataclass(frozen=True)
class Block:
    """One block of code: its place, language ("" where it is only indented), comment and text."""

    page: str
    line: int
    language: str
    marker: str
    text: str

    @property
    def where(self) -> str:
        return f"{self.page}:{self.line}"


@dataclass(frozen=True)
class Page:
    path: str
    text: str

    def blocks(self) -> list[Block]:
        return list(_blocks(self.path, self.text.splitlines()))

    def prose(self) -> str:
        """Without the blocks."""
        kept, fence = [], ""
        for line in self.text.splitlines():
            found = _FENCE.match(line)
            if fence:
                fence = "" if line.strip() == fence else fence
            elif found:
                fence = found[2]
            elif not line.startswith("    "):
                kept.append(line)
        return "\n".join(kept)


def _blocks(page, lines):
    number, marker, blank = 0, "", True
    while number < len(lines):
        line, first = lines[number], number + 1
        if found := _FENCE.match(line):
            indent, fence, language = len(found[1]), found[2], found[3]
            body = []
            number += 1
            while number < len(lines) and lines[number].strip() != fence:
                body.append(lines[number][indent:])
                number += 1
            assert number < len(lines), f"{page}:{first}: the block is never closed"
            yield Block(page, first, language or "?", marker, "\n".join(body) + "\n")
        elif blank and line.startswith("    ") and line.strip():
            body = []
            while number < len(lines) and (lines[number].startswith("    ") or not lines[number]):
                body.append(lines[number][4:])
                number += 1
            yield Block(page, first, "", "", "\n".join(body).rstrip() + "\n")
            blank = True
            continue
        comment = _COMMENT.match(line)
        # A comment holds for what follows at once.
        marker = comment[1] if comment else marker if not line.strip() else ""
        blank = not line.strip()
        number += 1


def pages():
    found = [ROOT / name for name in ELSEWHERE if (ROOT / name).is_file()]
    found += sorted((ROOT / "docs").rglob("*.md"))
    return [Page(path.relative_to(ROOT).as_posix(), path.read_text()) for path in found]


def pytest_generate_tests(metafunc):
    if "page" in metafunc.fixturenames:
        metafunc.parametrize("page", pages(), ids=lambda page: page.path)


@pytest.fixture(scope="session")
def every_page():
    return pages()


@pytest.fixture(scope="session")
def root():
    return ROOT
