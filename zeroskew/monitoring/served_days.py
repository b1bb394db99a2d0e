"""Which versions of a model have served, and on which days: from folder names alone."""

from __future__ import annotations

from datetime import UTC, date, datetime
from typing import Any

from zeroskew.errors import ServingError
from zeroskew.serving.log_profiles import FOLDER
from zeroskew.serving.log_sink import check_sink, sink_filesystem
from zeroskew.serving.log_spool import quoted


class ServedDays:
    """Lists one log, never its files' contents."""

    def __init__(self, log: str) -> None:
        """`log`: folder or s3:// prefix. Raises `ConfigError` for an address that is none."""
        self._log = log
        self._system, self._root = sink_filesystem(check_sink(log))

    def versions(self, model: str) -> tuple[str, ...]:
        """Versions that have a part of the log, in order. Raises `ServingError`."""
        found = self._named(f"{self._root}/model={quoted(model)}", "version=")
        return tuple(sorted(found, key=lambda name: (not name.isdigit(), len(name), name)))

    def days(self, model: str, version: str) -> tuple[date, ...]:
        """Days (UTC) about which something was served, in order. Raises `ServingError`."""
        found = []
        for name in self._named(self._folder(model, version), "date="):
            try:
                found.append(date.fromisoformat(name))
            except ValueError:
                continue
        return tuple(sorted(found))

    def hours(self, model: str, version: str, day: date) -> tuple[datetime, ...]:
        """The hours of a day that have begun, in order. Raises `ServingError`."""
        names = self._named(f"{self._folder(model, version)}/date={day}", "hour=")
        return tuple(
            datetime(day.year, day.month, day.day, hour, tzinfo=UTC)
            for hour in sorted(int(name) for name in names if name.isdigit())
            if hour < 24
        )

    def _folder(self, model: str, version: str) -> str:
        return f"{self._root}/model={quoted(model)}/version={quoted(version)}/{FOLDER}"

    def _named(self, folder: str, prefix: str) -> list[str]:
        from pyarrow import fs

        selector: Any = fs.FileSelector(folder, allow_not_found=True)
        try:
            listed = self._system.get_file_info(selector)
        except OSError as error:
            raise ServingError(f"the log cannot be listed: {error}", where=self._log) from None
        return [
            each.base_name.removeprefix(prefix)
            for each in listed
            if each.type == fs.FileType.Directory and each.base_name.startswith(prefix)
        ]
