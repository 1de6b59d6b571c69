"""Reading the files that come with a research data set: what is wrong with one is said in one sentence."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any


@contextmanager
def expect_format(path: Path, what: str) -> Iterator[None]:
    """Turns whatever goes wrong while `path` is taken apart into a ValueError that says it is not `what`."""
    try:
        yield
    except (KeyError, TypeError, AttributeError, IndexError, ValueError, RecursionError) as error:
        raise ValueError(
            f"{path} is not {what} ({type(error).__name__}: {error}). Download it again, or see the recipe's card."
        ) from error


def read_json(path: Path) -> Any:
    """Raises ValueError when the file is missing or not JSON."""
    require_file(path)
    with expect_format(path, "a JSON file"):
        return json.loads(path.read_bytes())


def read_json_lines(path: Path) -> Iterator[tuple[int, Any]]:
    """(number of the line from 1, its value); empty lines are passed over."""
    require_file(path)
    with path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            if line.strip():
                with expect_format(path, f"a file of JSON lines: see line {number}"):
                    value = json.loads(line)
                yield number, value


def require_file(path: Path) -> Path:
    if not path.is_file():
        raise ValueError(f"{path} does not exist. The recipe's card says what must lie where below --root.")
    return path


def require_folder(path: Path) -> Path:
    if not path.is_dir():
        raise ValueError(f"{path} is not a folder. The recipe's card says what must lie where below --root.")
    return path


def one_line(text: str) -> str:
    """The text without line breaks and doubled spaces: captions are lines of a .txt.

    JSON may hold halves of surrogate pairs, which UTF-8 has no bytes for; they become question marks.
    """
    return " ".join(text.encode("utf-8", "replace").decode("utf-8").split())


def json_bytes(value: Any) -> bytes:
    """Compact ASCII, the same bytes for the same value."""
    return json.dumps(value, separators=(",", ":"), ensure_ascii=True).encode()
