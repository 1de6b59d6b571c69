"""Where a shard lies."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple, TypeVar

from mm_mhmoe_data.shards.cache import fetch
from mm_mhmoe_data.shards.errors import ShardError
from mm_mhmoe_data.shards.remote import RemoteError, RemoteFile, describe, is_remote

_TRIES = 5

_T = TypeVar("_T")


class Stated(NamedTuple):
    """How many samples a list says that a shard holds, and which list."""

    samples: int
    by: str


@dataclass(frozen=True)
class Shard:
    """One tar file by its path or address, or (to be streamed only) `pipe:` and a shell command.

    stated: what the list that named it says about it.
    remote: the file as it was found; only remote shards that were asked for have it (see `found`).
    """

    location: str
    stated: Stated | None = field(default=None, compare=False, kw_only=True)
    remote: RemoteFile | None = field(default=None, compare=False, kw_only=True)

    @property
    def name(self) -> str:
        """The last part of its location."""
        location = self.location.partition("?")[0] if self.is_remote else self.location
        return location.rstrip("/").rpartition("/")[2]

    @property
    def place(self) -> str:
        """The same however a shard was named: its address, or its path from the root."""
        return self.location if self.is_remote else str(Path(self.location).resolve())

    @property
    def is_remote(self) -> bool:
        return is_remote(self.location)

    @property
    def is_pipe(self) -> bool:
        """Whether it is what a shell command prints (`pipe:curl ...`)."""
        return self.location.startswith("pipe:")

    def found(self) -> Shard:
        """Itself; a remote one with its size and version, for which its server is asked. Raises `RemoteError`."""
        if not self.is_remote or self.remote:
            return self
        return Shard(self.location, stated=self.stated, remote=describe(self.location))

    def local(self, sha256: str | None = None) -> Path:
        """The file on this machine; a remote one is fetched into the bounded folder for shards.

        It may be put out of that folder by the next one: open it at once, or take `use`.

        Args:
            sha256: what a remote file must have.

        Raises:
            RemoteError: it cannot be fetched.
            ShardError: its checksum is another one, or it is the output of a command.
        """
        if self.is_pipe:
            raise ShardError(self.location, "the output of a command can only be streamed")
        remote = self.found().remote
        if remote is None:
            return Path(self.location)
        return fetch(remote, sha256)

    def use(self, do: Callable[[Path], _T], sha256: str | None = None) -> _T:
        """`do(file on this machine)`; errors of a remote shard name its address. Raises as `local` and `do` do."""
        if not self.is_remote:
            return do(self.local())
        for _ in range(_TRIES):
            path = self.local(sha256)
            try:
                return do(path)
            except FileNotFoundError:  # put out of the folder for shards before it was opened
                continue
            except ShardError as error:
                raise ShardError(str(error).replace(str(path), self.location)) from error
        raise RemoteError(f"{self.location} was put out of the folder for shards {_TRIES} times; let it be larger")

    def __str__(self) -> str:
        return self.location
