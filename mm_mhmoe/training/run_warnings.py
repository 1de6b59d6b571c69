"""What a run has to say besides numbers."""

from __future__ import annotations

import json
from pathlib import Path

from mm_mhmoe.training.interrupted import is_first_process

WARNINGS = "warnings.jsonl"


class RunWarnings:
    """A line on the terminal, and one in a file, from the first process alone.

    Args:
        path: the file, one JSON object a line: step, kind, message.
        every: a kind of warning speaks again after so many steps at the earliest.
    """

    def __init__(self, path: Path, *, every: int = 200) -> None:
        self.path = path
        self.every = every
        self._last: dict[str, int] = {}

    def say(self, step: int, kind: str, message: str) -> None:
        """Args: step, from 1; kind, which limits how often; message, what is wrong and what to try, or nothing."""
        if not message or not is_first_process() or step - self._last.get(kind, -self.every) < self.every:
            return
        self._last[kind] = step
        print(f"warning: step {step}: {message}", flush=True)
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps({"step": step, "kind": kind, "message": message}) + "\n")
