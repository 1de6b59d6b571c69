"""What is wrong with a shard."""

from __future__ import annotations

from pathlib import Path

_REMEDY = "Copy or write the shard again, or take it out of the shard list."


class ShardError(ValueError):
    """A shard cannot be trusted; the message names the shard, what is wrong and what to do."""

    def __init__(self, path: Path | str, problem: str | None = None) -> None:
        # A data worker's error is made again in the training process from its message alone.
        super().__init__(str(path) if problem is None else f"shard {path}: {problem}. {_REMEDY}")
