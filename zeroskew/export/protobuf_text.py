"""Protobuf's text form, which Triton's config.pbtxt is written in.

https://protobuf.dev/reference/protobuf/textformat-spec/
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


class Word(str):
    """An enum value of protobuf text, written without quotes."""

    __slots__ = ()


def protobuf_text(message: Mapping[str, Any]) -> str:
    """`name: scalar`, `name { … }` for mappings; a list repeats its name."""
    return "\n".join(_lines(message)) + "\n"


def _lines(message: Mapping[str, Any], indent: str = "") -> list[str]:
    lines: list[str] = []
    for field, value in message.items():
        for item in value if isinstance(value, list) else [value]:
            if isinstance(item, Mapping):
                lines += [f"{indent}{field} {{", *_lines(item, indent + "  "), f"{indent}}}"]
            elif isinstance(item, bool):
                lines.append(f"{indent}{field}: {str(item).lower()}")
            elif isinstance(item, int | Word):
                lines.append(f"{indent}{field}: {item}")
            else:
                lines.append(f"{indent}{field}: {_quoted(item)}")
    return lines


def _quoted(text: str) -> str:
    """A protobuf string literal: bytes outside printable ASCII as octal escapes of UTF-8."""
    text = text.replace("\\", "\\\\").replace('"', '\\"')
    return '"' + "".join(chr(b) if 32 <= b < 127 else f"\\{b:03o}" for b in text.encode()) + '"'
