"""The two word lists of the Open Clip Art recipe: folders and terms, both tab-separated text files."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from importlib.resources import files

COLOURS = frozenset(
    [
        "red",
        "orange",
        "yellow",
        "green",
        "blue",
        "purple",
        "pink",
        "brown",
        "black",
        "gray",
        "grey",
        "white",
        "violet",
        "seagreen",
        "cyan",
        "magenta",
        "gold",
        "golden",
        "silver",
        "crystal",
    ]
)
_MAX_PHRASE = 6


def _rows(name: str) -> list[list[str]]:
    text = files(__package__).joinpath(name).read_text(encoding="utf-8")
    return [line.split("\t") for line in text.splitlines() if line.strip() and not line.startswith("#")]


@dataclass(frozen=True)
class Folders:
    """Folder prefix -> (category for questions, word for captions)."""

    table: dict[str, tuple[str, str]]

    @classmethod
    def load(cls) -> Folders:
        """The list that ships with the recipe."""
        return cls({folder: (category, word) for folder, category, word in _rows("openclipart_folders.tsv")})

    def lookup(self, folder: str) -> tuple[str, str]:
        """The entry of the longest prefix of `folder`; ("-", "-") when there is none."""
        while folder and folder != ".":
            if folder in self.table:
                return self.table[folder]
            folder = folder.rpartition("/")[0]
        return "-", "-"


@dataclass(frozen=True)
class Glossary:
    """Phrases of titles and file names -> plain English."""

    terms: dict[str, str]

    @classmethod
    def load(cls) -> Glossary:
        """The list that ships with the recipe."""
        return cls({row[0].strip(): row[1].strip() if len(row) > 1 else "" for row in _rows("openclipart_terms.tsv")})

    @cached_property
    def _keys(self) -> dict[tuple[str, ...], str]:
        return {tuple(term.split()): value for term, value in self.terms.items()}

    def translate(self, text: str) -> str:
        """Replace the longest known phrases from left to right; other words stay.

        A term written "=word" stands for titles that consist of it alone.
        """
        if f"={text}" in self.terms:
            return self.terms[f"={text}"]
        tokens = text.split()
        if len(tokens) > 1 and "".join(tokens) in self.terms:  # CamelCase that the list spells as one word
            return self.terms["".join(tokens)]
        result: list[str] = []
        at = 0
        while at < len(tokens):
            for length in range(min(_MAX_PHRASE, len(tokens) - at), 0, -1):
                value = self._keys.get(tuple(tokens[at : at + length]))
                # a single dropped word must not swallow a title that consists of it alone
                if value is not None and (value or len(tokens) > length):
                    result.append(value)
                    at += length
                    break
            else:
                result.append(tokens[at])
                at += 1
        return " ".join(part for part in result if part)
