"""A readable caption from a noisy title, a file name, keywords and a folder.

A caption is "title, context": the cleaned title (or the file name where the title names a collection instead
of the picture) and one word for what kind of thing it is, unless the title says so already.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath

from .special_titles import special_title
from .svg_metadata import SvgMetadata
from .titles import choose_title, clean_stem, plain, series_key
from .vocabulary import COLOURS, Folders, Glossary

MAX_WORDS = 9

# a keyword may stand in for a catch-all folder; everything not listed here is about collections, not pictures
_KEYWORD_CONTEXTS = {
    "roadsign": "road sign",
    "car": "car",
    "boat": "boat",
    "bird": "bird",
    "insect": "insect",
    "fish": "fish",
    "dog": "dog",
    "cat": "cat",
    "mammal": "animal",
    "fruit": "fruit",
    "flower": "flower",
    "tree": "tree",
    "lightbulb": "light bulb",
    "arrow": "arrow",
    "musicsym": "music",
    "music": "music",
    "garden": "garden tool",
    "clean": "cleaning",
    "weapon": "weapon",
    "christianity": "religion",
    "kanji": "kanji",
    "recycle": "recycling",
    "rating": "rating",
    "security": "safety",
    "weathersym": "weather",
    "vehicle": "vehicle",
    "camera": "camera",
    "clothing": "clothing",
    "food": "food",
    "animal": "animal",
}
_VAGUE = frozenset(
    [
        "-",
        "symbol",
        "computer",
        "people",
        "tool",
        "office",
        "transport",
        "recreation",
        "education",
        "shape",
        "electronics",
        "food",
        "animal",
        "science",
    ]
)
# whose titles are names of programs: "kugar" says nothing about what is drawn
_PROGRAM_ICONS = "application icon"
_CATCH_ALL = frozenset(["-", "symbol", "computer", "tool", "office", "transport", "recreation", "education", "shape"])


class CaptionRejected(Exception):
    """Nothing usable can be said about the picture; `reason` is counted in the manifest."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


@dataclass(frozen=True, kw_only=True)
class Caption:
    """The caption and what it was made of. `series` is equal for drawings that differ in colour or number."""

    text: str
    title: str
    context: str
    category: str
    keywords: tuple[str, ...]
    series: str


def make_caption(
    path: PurePosixPath,
    metadata: SvgMetadata,
    glossary: Glossary,
    folders: Folders,
    keyword_counts: Mapping[str, int],
) -> Caption:
    """The caption of the picture at `path` (relative to the png folder).

    Raises `CaptionRejected` when neither title nor file name nor folder says anything about the picture, and for the
    icons of programs.
    """
    folder = path.parent.as_posix()
    category, context = folders.lookup(folder)
    if context == _PROGRAM_ICONS:
        raise CaptionRejected("title names a program, not what is shown")
    keywords = usable_keywords(metadata.keywords, keyword_counts)
    stem = clean_stem(path.stem, metadata.creator)
    special = special_title(folder, path.stem.lower(), metadata, glossary)
    if special is not None:
        title, context = special
    else:
        title = glossary.translate(choose_title(metadata, stem))
        context = _context(title, context, folder, keywords)
    title = _tidy(title)
    if not _says_something(title):
        if not context or context in _VAGUE or category == "-":
            raise CaptionRejected("no usable text")
        title, context = context, ""
    text = title if not context or _mentions(title, context) else f"{title}, {context}"
    return Caption(
        text=text,
        title=title,
        context=context,
        category="" if category == "-" else category,
        keywords=keywords,
        series=f"{folder}/{series_key(stem)}",
    )


def usable_keywords(keywords: Iterable[str], counts: Mapping[str, int]) -> tuple[str, ...]:
    """At most six keywords that are words and that several pictures carry, in alphabetical order."""
    found = []
    for keyword in keywords:
        word = plain(keyword).replace("_", " ")
        if counts.get(keyword, 0) < 4 or not re.fullmatch(r"[a-z][a-z ]{2,20}", word):
            continue
        found.append(word)
    return tuple(sorted(dict.fromkeys(found)))[:6]


def count_keywords(all_metadata: Iterable[SvgMetadata]) -> Counter[str]:
    """How many pictures carry each keyword."""
    return Counter(keyword for metadata in all_metadata for keyword in metadata.keywords)


def _context(title: str, context: str, folder: str, keywords: tuple[str, ...]) -> str:
    """The kind of thing: the folder's word, or a keyword where the folder is a catch-all."""
    if folder == "geography" and "map" not in {*title.split(), *keywords}:
        context = "-"
    if context in _CATCH_ALL:
        parts = set(re.split(r"[/_]", folder))
        better = [word for key, word in _KEYWORD_CONTEXTS.items() if key in keywords and key not in parts]
        context = next((word for word in better if not _mentions(title, word)), context)
    if context == "symbol" and _mentions(title, "sign"):
        return ""
    return "" if context == "-" or _mentions(title, context) else context


def _mentions(title: str, phrase: str) -> bool:
    """Whether the last word of `phrase` occurs in the title, in singular or plural."""
    last = phrase.split()[-1]
    roots = {last, last.rstrip("s"), last + "s", last + "es"}
    return any(word in roots for word in re.split(r"[\s,-]+", title))


def _tidy(title: str) -> str:
    title = re.sub(r"\s+,", ",", re.sub(r"\s+", " ", title)).strip(" ,-.")
    tokens = title.split()
    kept = [token for i, token in enumerate(tokens) if i == 0 or token != tokens[i - 1]]
    if kept[-1:] == ["pattern"]:
        kept = [token for token in kept if not token.isdigit()]
    if len(kept) in (2, 3) and kept[-1] in COLOURS and not COLOURS & {*kept[:-1]}:
        kept = kept[-1:] + kept[:-1]  # "pill button yellow" reads better the other way round
    if kept[-3:] == ["black", "and", "white"]:
        kept = kept[-3:] + kept[:-3]
    return " ".join(kept[:MAX_WORDS]).strip(" ,-")


def _says_something(title: str) -> bool:
    letters = re.sub(r"[^a-z]", "", title)
    return len(letters) >= 3 and re.search(r"[aeiouy]", letters) is not None
