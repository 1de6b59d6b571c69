"""Data cards, one template a recipe, filled from the manifest so that their numbers are those of the files."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.resources import files
from string import Template
from typing import Any


def card(manifest: Mapping[str, Any]) -> str:
    """README.md for the data set that `manifest` describes.

    A template may use $recipe, $version, $licence, the tables $splits, $dropped, $expected, $arguments and $source, and
    `$name` for every plain value in the manifest's facts. A recipe without a template gets general.md.
    """
    template = files(__package__).joinpath(f"{manifest['recipe']}.md")
    if not template.is_file():
        template = files(__package__).joinpath("general.md")
    plain: dict[str, Any] = {name: value for name, value in manifest.items() if isinstance(value, str | int | float)}
    tables = {
        "splits": _table(
            ("split", "shards", "samples"),
            [(name, len(split["shards"]), split["samples"]) for name, split in manifest["splits"].items()],
        ),
        "dropped": _table(("reason", "dropped"), list(manifest["dropped"].items())) or "Nothing.",
        "expected": _table(
            ("what", "expected", "found", ""),
            [
                (name, row["expected"], row["found"], "" if row["expected"] == row["found"] else "differs")
                for name, row in manifest["expected"].items()
            ],
        )
        or "No counts are known beforehand.",
        "arguments": _table(("option", "value"), list(manifest["arguments"].items())) or "None.",
        "source": _source(manifest.get("source", "unknown")),
    }
    return Template(template.read_text(encoding="utf-8")).substitute({"licence": "unknown"} | plain | tables)


def _table(head: tuple[str, ...], rows: list[tuple[Any, ...]]) -> str:
    if not rows:
        return ""
    lines = [head, tuple("---" for _ in head), *rows]
    return "\n".join("| " + " | ".join(_cell(value) for value in row) + " |" for row in lines)


def _cell(value: object) -> str:
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value).replace("|", r"\|")


def _source(source: object) -> str:
    if isinstance(source, Mapping):
        return _table(("source", ""), [(name, value) for name, value in source.items()])
    return str(source)
