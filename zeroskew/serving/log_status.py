"""What a shipper has done for one writer, as two small files in the writer's folder.

`status.json` is read every few seconds by the front, `profiles.json` less often, so they are two.
Both say which segment they counted last: a shipper that was killed before it could remove that one
does not count it again.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from zeroskew.errors import DataError
from zeroskew.profiles import Profile
from zeroskew.serving.log_spool import PROFILES, STATUS, read_json, write_json


@dataclass(slots=True)
class ShippingStatus:
    """Since the writer started."""

    last: int = 0
    """The segment shipped last: the only one that can be counted here and still be on disk."""
    rows: int = 0
    segments: int = 0
    bytes: int = 0
    """Of Parquet files."""
    failures: int = 0
    """Attempts that the sink refused."""
    last_error: str | None = None
    """Why the sink refused last; None once it has taken something since."""
    last_success: float | None = None
    """Seconds since the epoch."""
    rows_corrupt: int = 0
    """Rows of torn or flipped frames, as far as their headers tell."""
    bytes_corrupt: int = 0
    segments_broken: int = 0
    """Set aside as `.broken`, because nothing could be made of them."""
    values_unfit: int = 0
    """Values that did not fit the kind of their column, logged as null."""

    @classmethod
    def read(cls, folder: Path) -> ShippingStatus:
        """All zeros where nothing has been written yet."""
        raw = read_json(folder / STATUS)
        return cls(**{f.name: raw[f.name] for f in fields(cls) if f.name in raw})

    def write(self, folder: Path) -> None:
        """A disk without room for it is no reason to stop shipping, which makes room."""
        with contextlib.suppress(OSError):
            write_json(folder / STATUS, asdict(self))


@dataclass(slots=True)
class ServedProfiles:
    """Cumulative profiles by role."""

    last: int = 0
    roles: dict[str, Profile] = field(default_factory=dict)

    def add(self, segment: int, measured: Mapping[str, Profile]) -> None:
        """Count a segment, once."""
        if segment == self.last:
            return
        self.last = segment
        for role, profile in measured.items():
            before = self.roles.get(role)
            self.roles[role] = profile if before is None else before.merge(profile)

    @classmethod
    def read(cls, folder: Path) -> ServedProfiles:
        raw = read_json(folder / PROFILES)
        try:
            roles: Mapping[str, Any] = raw["roles"]
            return cls(raw["last"], {r: Profile.from_json(p) for r, p in roles.items()})
        except (KeyError, TypeError, DataError):
            return cls()

    def write(self, folder: Path) -> None:
        with contextlib.suppress(OSError):
            content = {role: profile.to_json() for role, profile in self.roles.items()}
            write_json(folder / PROFILES, {"last": self.last, "roles": content})
