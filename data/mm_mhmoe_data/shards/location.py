"""Where a shard lies."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Shard:
    """One tar file by its path."""

    location: str

    @property
    def name(self) -> str:
        """The last part of its location."""
        return self.location.rstrip("/").rpartition("/")[2]

    def local(self) -> Path:
        """The file on this machine."""
        return Path(self.location)

    def __str__(self) -> str:
        return self.location
