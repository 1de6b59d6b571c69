"""The file that lets a killed build go on: which build this is, and a line for every finished shard."""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

from .files import TEMPORARY, edges, write_whole
from .plan import Dropped

STATE = ".build.jsonl"


@dataclass(frozen=True, kw_only=True)
class Finished:
    """A shard that is complete. One without samples has no file."""

    path: str
    samples: int
    bytes: int
    sha256: str
    edges: str
    dropped: tuple[Dropped, ...]

    def line(self) -> str:
        return json.dumps(asdict(self), separators=(",", ":"))

    @staticmethod
    def read(line: str) -> Finished:
        values = json.loads(line)
        return Finished(**(values | {"dropped": tuple(Dropped(**drop) for drop in values["dropped"])}))

    def holds(self, out: Path) -> bool:
        """Whether the file is still there as it was written, as far as its size, beginning and end tell."""
        path = out / self.path
        if not self.samples:
            return not path.exists()
        return path.is_file() and path.stat().st_size == self.bytes and edges(path) == self.edges


class BuildState:
    """A context that owns `out` while a build writes to it; `finished` are its good shards by path.

    A line is added, synced, after each shard, so a kill at any moment costs at most the shards under way.
    Raises `ValueError` when `out` belongs to another build, holds other files, or another process writes to it.
    """

    def __init__(self, out: Path, identity: Mapping[str, Any]) -> None:
        self.out, self.identity = out, json.loads(json.dumps(identity))
        self.finished: dict[str, Finished] = {}

    def __enter__(self) -> BuildState:
        path = self.out / STATE
        if self.out.exists() and not self.out.is_dir():
            raise ValueError(f"out={str(self.out)!r} is a file. Give a folder.")
        if self.out.is_dir() and any(self.out.iterdir()) and not path.is_file():
            raise ValueError(f"out={str(self.out)!r} holds files that no build left there. Give a new folder.")
        self.out.mkdir(parents=True, exist_ok=True)
        self.file = path.open("a+", encoding="utf-8")
        try:
            fcntl.flock(self.file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            self.file.close()
            raise ValueError(f"out={str(self.out)!r}: another build writes there. Wait for it, or stop it.") from None
        try:
            self._read()
        except BaseException:
            self.file.close()
            raise
        for leftover in self.out.rglob(TEMPORARY):
            leftover.unlink(missing_ok=True)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.file.close()

    def add(self, shard: Finished) -> None:
        self.finished[shard.path] = shard
        self._append(shard.line())

    def close(self, order: Sequence[str]) -> None:
        """Rewrite the finished lines in the order of the jobs, so that the file does not tell who was fastest."""
        lines = [json.dumps(self.identity), *(self.finished[path].line() for path in order)]
        write_whole(self.out / STATE, "".join(f"{line}\n" for line in lines).encode())

    def _read(self) -> None:
        self.file.seek(0)
        content = self.file.read()
        whole, _, cut = content.rpartition("\n")  # the kill may have come in the middle of a line
        if cut:
            self.file.truncate(len(content.encode()) - len(cut.encode()))
        lines = whole.split("\n") if whole else []
        if not lines:
            self._append(json.dumps(self.identity))
            return
        try:
            identity, shards = json.loads(lines[0]), [Finished.read(line) for line in lines[1:]]
        except (ValueError, KeyError, TypeError) as error:
            raise ValueError(
                f"{self.out / STATE} is damaged, so what lies beside it cannot be trusted. Give a new folder."
            ) from error
        if identity != self.identity:
            raise ValueError(
                f"out={str(self.out)!r} holds another build: {_difference(identity, self.identity)}. "
                "Give a new folder, or the command that began this one."
            )
        self.finished = {shard.path: shard for shard in shards if shard.holds(self.out)}

    def _append(self, line: str) -> None:
        self.file.write(f"{line}\n")
        self.file.flush()
        os.fsync(self.file.fileno())


def _difference(there: Mapping[str, Any], here: Mapping[str, Any]) -> str:
    """The first few values that differ, down to single arguments."""
    found: list[str] = []
    for name in sorted({*there, *here}):
        old, new = there.get(name), here.get(name)
        if old == new:
            continue
        if isinstance(old, dict) and isinstance(new, dict):
            found.append(_difference(old, new))
        else:
            found.append(f"its {name} is {old!r}, now {new!r}")
    return ", ".join(found[:3])
