"""A version's lineage as a tree: which data, which code, which features, what cost, beaten whom."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence

from rich.markup import escape
from rich.tree import Tree

from zeroskew.record import Measure, VersionRecord
from zeroskew.registry.promotions import Promotion
from zeroskew.registry.versions import OWN_TAGS, ModelVersion

ABSENT = "[yellow]not recorded[/]"

LONGEST = 400
"""Characters of a text in the tree; `zeroskew registry show` prints the whole."""


def draw_version(version: ModelVersion, entries: Sequence[Promotion], run_missing: bool) -> Tree:
    """The tree of a version, from its tags alone: whatever is missing is said to be."""
    tag = _Tags(version.tags)
    marks = [*(f"[bold green]{escape(a)}[/]" for a in version.aliases), escape(version.stage)]
    tree = Tree(
        f"[bold]{escape(version.name)} version {version.version}[/]  "
        + " ".join(mark for mark in marks if mark)
        + f"  [dim]registered {version.created:%Y-%m-%d %H:%M} UTC[/]"
    )
    _branch(
        tree,
        "which data",
        ("training set", tag.short("data_hash")),
        ("rows", tag.number("data_rows", "{:,.0f}")),
        ("range", tag.range("data_start", "data_end")),
        ("held out", tag.range("held_out_start", "held_out_end")),
        ("held-out rows", tag.number("held_out_rows", "{:,.0f}")),
        ("held-out hash", tag.short("held_out_hash")),
    )
    _branch(
        tree,
        "which code",
        ("commit", tag.text("code_sha")),
        ("image", tag.text("image")),
    )
    _branch(
        tree,
        "which features",
        ("service", tag.text("feature_service")),
        ("schema version", tag.short("feature_schema_version")),
    )
    _branch(
        tree,
        "at what cost",
        ("training time", tag.number("training_seconds", "{:,.1f} s")),
        ("compute", tag.number("compute_cost", "{:,.4f} " + version.tags.get("currency", ""))),
    )
    _branch(
        tree,
        "what was exported",
        ("precision", tag.text("precision")),
        ("because", tag.text("precision_reason")),
        ("calibrated on", tag.short("calibration_hash")),
        *((name, escape(value[:12])) for name, value in tag.mapping("onnx_sha256").items()),
        *((f"plan {key}", escape(value[:12])) for key, value in tag.mapping("plans").items()),
    )
    _branch(tree, "how good", *tag.metrics())
    _branch(
        tree,
        "beaten whom, by how much",
        ("champion", _champion(version.tags)),
        ("verdict", tag.text("verdict")),
        ("difference", tag.difference()),
        ("margin", tag.number("margin", "{:g}")),
        ("reason", tag.text("verdict_reason")),
    )
    own = OWN_TAGS | set(VersionRecord.__slots__)
    others = {k: v for k, v in version.tags.items() if k.partition(".")[0] not in own}
    if others:
        _branch(tree, "also noted", *((k, escape(v)) for k, v in sorted(others.items())))
    _promotions(tree, entries)
    if not version.complete:
        tree.add("[yellow]made by another tool: nothing vouches for its files[/]")
    if run_missing:
        tree.add("[yellow]its run was deleted: metrics and files may be gone[/]")
    return tree


def draw_deleted(name: str, version: int, entries: Sequence[Promotion]) -> Tree:
    """What the promotion log still knows of a version that is gone."""
    tree = Tree(f"[bold]{escape(name)} version {version}[/]  [yellow]deleted[/]")
    known = next((e.identity for e in entries if e.version == version and e.identity), "")
    tree.add(f"record  {escape(known[:12])}" if known else f"record  {ABSENT}")
    _promotions(tree, entries)
    return tree


class _Tags:
    """Tags as printable text; `ABSENT` for what is not there or cannot be read."""

    def __init__(self, tags: Mapping[str, str]) -> None:
        self._tags = tags

    def text(self, name: str) -> str:
        value = self._whole(name)
        shown = value if len(value) <= LONGEST else value[: LONGEST - 1] + "…"
        return escape(shown) if value else ABSENT

    def short(self, name: str) -> str:
        value = self._tags.get(name, "")
        return escape(value[:16]) if value else ABSENT

    def number(self, name: str, form: str) -> str:
        try:
            return form.format(float(self._tags[name])).strip()
        except (KeyError, ValueError):
            return ABSENT

    def range(self, start: str, end: str) -> str:
        first, last = self._tags.get(start, ""), self._tags.get(end, "")
        return f"{escape(first)} to {escape(last)}" if first or last else ABSENT

    def mapping(self, name: str) -> dict[str, str]:
        try:
            raw = json.loads(self._whole(name) or "{}")
        except ValueError:
            return {name: "unreadable"}
        return {str(k): str(v) for k, v in raw.items()} if isinstance(raw, dict) else {}

    def metrics(self) -> list[tuple[str, str]]:
        try:
            raw = json.loads(self._whole("metrics") or "{}")
            return [(k, str(Measure.from_json(v))) for k, v in raw.items()] or [("", ABSENT)]
        except (ValueError, TypeError, AttributeError):
            return [("", "[yellow]unreadable[/]")]

    def difference(self) -> str:
        by = escape(self._tags.get("compared_by", ""))
        try:
            return f"{Measure.from_json(json.loads(self._tags['difference']))} {by}".strip()
        except (KeyError, ValueError, TypeError):
            return "none" if self._tags.get("verdict") == "first" else ABSENT

    def _whole(self, name: str) -> str:
        text, position = self._tags.get(name, ""), 1
        while (part := self._tags.get(f"{name}.{position}")) is not None:
            text, position = text + part, position + 1
        return text


def _champion(tags: Mapping[str, str]) -> str:
    if against := tags.get("compared_against"):
        return f"version {escape(against)}"
    return "none: the first version" if tags.get("verdict") == "first" else ABSENT


def _branch(tree: Tree, title: str, *rows: tuple[str, str]) -> None:
    branch = tree.add(f"[cyan]{title}[/]")
    width = max((len(name) for name, _ in rows), default=0)
    for name, value in rows:
        branch.add(f"[dim]{escape(name.ljust(width))}[/]  {value}" if name else value)


def _promotions(tree: Tree, entries: Iterable[Promotion]) -> None:
    for position, entry in enumerate(entries):
        if position == 0:
            branch = tree.add("[cyan]promotions[/]")
        instead = "" if entry.replaced is None else f" instead of version {entry.replaced}"
        what = "no champion" if entry.version is None else f"version {entry.version}"
        branch.add(
            f"#{entry.number} {escape(entry.action)}: {what}{instead}  "
            f"[dim]{escape(entry.at)} by {escape(entry.by)}[/]\n{escape(entry.reason)}"
        )
