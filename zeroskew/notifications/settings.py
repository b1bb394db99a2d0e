"""Who is told of what: the file that ZEROSKEW_NOTIFICATIONS of the operator names.

destinations:
- name: on-call
  type: slack
  url_from: {env: SLACK_URL}
  reasons: ["RolledBack", "Run*"]
"""

from __future__ import annotations

import re
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Annotated, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from zeroskew.errors import ConfigError
from zeroskew.notifications.notification import Notification

MOST_BYTES = 256 * 1024

Name = Annotated[str, Field(pattern=r"^[a-z0-9]([-a-z0-9]{0,38}[a-z0-9])?$")]
Pattern = Annotated[str, Field(min_length=1, max_length=100)]


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class SecretSource(_Section):
    """Where a secret comes from: a variable or a file that the pod has from a Secret."""

    env: Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")] | None = None
    file: Annotated[str, Field(pattern=r"^/")] | None = None
    """Read again for each message, so that a new Secret holds without a restart."""

    @model_validator(mode="after")
    def _one(self) -> SecretSource:
        if (self.env is None) == (self.file is None):
            raise ValueError("say either `env` or `file`")
        return self


class Destination(_Section):
    """One receiver, and what it is told."""

    name: Name
    """In metrics and logs; the address, which may be a secret, is in neither."""
    type: Literal["webhook", "slack"] = "webhook"
    """`webhook`: a JSON object with the fields of the event; `slack`: Slack's format."""
    url: str | None = None
    url_from: SecretSource | None = None
    """In place of `url`, where the address is a secret, as Slack's is."""
    token_from: SecretSource | None = None
    """Sent as `Authorization: Bearer`."""
    allow_http: bool = False
    """Also an address without TLS."""
    ca_file: str | None = None
    """Certificates to trust in place of the system's."""
    kinds: tuple[Pattern, ...] = ("*",)
    """Patterns, as of file names: ModelRollout, DriftMonitor, PipelineSchedule."""
    namespaces: tuple[Pattern, ...] = ("*",)
    types: tuple[Literal["Normal", "Warning"], ...] = ("Warning",)
    reasons: tuple[Pattern, ...] = ("*",)
    """Patterns of reasons; docs/conditions-and-events.md lists them all."""
    template: Annotated[str, Field(max_length=4096)] | None = None
    """Jinja text with kind, namespace, name, type, reason, message, time and link; without loops
    and calls. Unset: a line with all of it."""
    timeout_seconds: Annotated[float, Field(gt=0, le=60)] = 10.0
    attempts: Annotated[int, Field(ge=1, le=20)] = 6
    """With growing pauses; then the message is given up, and counted."""
    queue: Annotated[int, Field(ge=1, le=10_000)] = 500
    """Messages that may wait; one more is dropped, and counted."""

    @field_validator("template")
    @classmethod
    def _renders(cls, value: str | None) -> str | None:
        from zeroskew.notifications.rendering import check_template

        if value is not None:
            check_template(value)
        return value

    @model_validator(mode="after")
    def _address(self) -> Destination:
        if (self.url is None) == (self.url_from is None):
            raise ValueError("say either `url` or `url_from`")
        if self.url is not None:
            self.check_address(self.url)
        return self

    def check_address(self, url: str) -> None:
        """Raises `ValueError`, which does not repeat the address: it may be a secret."""
        scheme = re.match(r"^(https?)://[^/\s?#]+\S*$", url)
        if scheme is None:
            raise ValueError("the address is no URL of https")
        if scheme[1] == "http" and not self.allow_http:
            raise ValueError("the address is without TLS: use https, or say `allow_http: true`")

    def wants(self, told: Notification) -> bool:
        """Whether it is told of this."""
        return (
            told.type in self.types
            and _matches(told.kind, self.kinds)
            and _matches(told.namespace, self.namespaces)
            and _matches(told.reason, self.reasons)
        )


class NotificationSettings(_Section):
    """The whole file."""

    destinations: Annotated[tuple[Destination, ...], Field(max_length=50)] = ()
    link: Annotated[str, Field(max_length=1024)] = ""
    """Where an object's status can be looked at, as a template like those of messages."""

    @field_validator("link")
    @classmethod
    def _renders(cls, value: str) -> str:
        from zeroskew.notifications.rendering import check_template

        check_template(value)
        return value

    @model_validator(mode="after")
    def _names(self) -> NotificationSettings:
        names = [each.name for each in self.destinations]
        if len(set(names)) < len(names):
            raise ValueError("two destinations have the same name")
        return self


def parse_notifications(text: str, *, where: str = "notifications") -> NotificationSettings:
    """Raises `ConfigError` that names every wrong field by its path."""
    try:
        raw = yaml.safe_load(text) if len(text) <= MOST_BYTES else "too long"
    except yaml.YAMLError as error:
        raise ConfigError(f"is no YAML: {' '.join(str(error).split())}", where=where) from None
    if not isinstance(raw, dict):
        raise ConfigError(
            "the file must be a mapping with `destinations`, of 256 KiB at most", where=where
        )
    try:
        return NotificationSettings.model_validate(raw)
    except ValidationError as error:
        lines = [
            f"{'.'.join(map(str, each['loc']))}: {each['msg']}" if each["loc"] else each["msg"]
            # Without what was given: it may be a secret.
            for each in error.errors(include_input=False, include_url=False, include_context=False)
        ]
        raise ConfigError("; ".join(lines), where=where) from None


def load_notifications(path: str) -> NotificationSettings:
    """Raises `ConfigError`, also for a file that is not there."""
    try:
        text = Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"cannot be read: {error}", where=path) from None
    return parse_notifications(text, where=path)


def _matches(value: str, patterns: tuple[str, ...]) -> bool:
    return any(fnmatchcase(value, pattern) for pattern in patterns)
