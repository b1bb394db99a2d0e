"""Texts of notifications: templates of users, rendered so that no template can cost more than it
is long.

Of Jinja there is text, fields, conditions and a few filters: no loop, no call, no attribute, no
arithmetic. What remains ends, and cannot reach the process.
"""

from __future__ import annotations

import functools
from dataclasses import asdict
from typing import Any

from jinja2 import StrictUndefined, Template, TemplateError, nodes
from jinja2.sandbox import ImmutableSandboxedEnvironment

from zeroskew.notifications.notification import Notification

FIELDS = ("kind", "namespace", "name", "type", "reason", "message", "time", "link")
MOST_CHARACTERS = 3000
"""Of a text; what is longer ends with an ellipsis. Slack takes 3,000 in one block."""
DEFAULT = (
    "{{ type }}: {{ kind }} {{ namespace }}/{{ name }}: {{ reason }}: {{ message }}"
    "{% if link %} ({{ link }}){% endif %}"
)
SLACK = (
    "{% if type == 'Warning' %}:warning: {% endif %}*{{ kind }} {{ namespace }}/{{ name }}* "
    "{{ reason }}\n{{ message }}{% if link %}\n<{{ link }}|status>{% endif %}"
)
_FILTERS = ("upper", "lower", "title", "capitalize", "trim", "truncate", "default", "length")
_NODES = (
    nodes.Template, nodes.Output, nodes.TemplateData, nodes.Name, nodes.Const, nodes.Filter,
    nodes.If, nodes.CondExpr, nodes.Compare, nodes.Operand, nodes.And, nodes.Or, nodes.Not,
    nodes.List, nodes.Tuple, nodes.Keyword,
)  # fmt: skip


def check_template(text: str) -> None:
    """Raises `ValueError` that names what a template may not have."""
    try:
        tree = _environment().parse(text)
    except TemplateError as error:
        raise ValueError(f"the template is wrong: {error.message}") from None
    for node in tree.find_all(nodes.Node):
        if not isinstance(node, _NODES):
            raise ValueError(
                f"line {node.lineno} of the template has a {type(node).__name__.lower()}: only "
                "fields, conditions and filters may be there"
            )
        if isinstance(node, nodes.Filter) and node.name not in _FILTERS:
            raise ValueError(f"{node.name!r} is not one of the filters: {', '.join(_FILTERS)}")
        if isinstance(node, nodes.Name) and node.name not in FIELDS:
            raise ValueError(f"{node.name!r} is none of the fields {', '.join(FIELDS)}")
    try:
        _compiled(text).render(dict.fromkeys(FIELDS, "x"))
    except Exception as error:
        raise ValueError(f"the template cannot be rendered: {error}") from None


def render(template: str, told: Notification, link: str = "", *, slack: bool = False) -> str:
    """The text, at most `MOST_CHARACTERS` long. `slack`: fields are escaped as Slack wants it."""
    fields = asdict(told) | {"link": link}
    if slack:
        fields = {name: _escaped(value) for name, value in fields.items()}
    text = _compiled(template).render({name: fields[name] for name in FIELDS})
    return text if len(text) <= MOST_CHARACTERS else text[: MOST_CHARACTERS - 1] + "…"


def body_of(
    kind: str, template: str | None, told: Notification, link_template: str = ""
) -> dict[str, Any]:
    """What is sent, for JSON. `kind`: the destination's type, `webhook` or `slack`."""
    link = render(link_template, told) if link_template else ""
    if kind == "slack":
        return {"text": render(template or SLACK, told, link, slack=True)}
    return asdict(told) | {"link": link, "text": render(template or DEFAULT, told, link)}


@functools.cache
def _environment() -> ImmutableSandboxedEnvironment:
    return ImmutableSandboxedEnvironment(undefined=StrictUndefined, autoescape=False)


@functools.lru_cache(256)
def _compiled(text: str) -> Template:
    return _environment().from_string(text)


def _escaped(text: str) -> str:
    """https://api.slack.com/reference/surfaces/formatting#escaping"""
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
