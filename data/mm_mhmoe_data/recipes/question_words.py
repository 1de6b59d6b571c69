"""Which words of a picture's title and folder can be asked about."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

MIN_TRAIN = 8
# words that name no thing one could point at
_NOT_OBJECTS = frozenset(
    [
        "icon",
        "symbol",
        "sign",
        "sport",
        "music",
        "people",
        "food",
        "animal",
        "plant",
        "office",
        "computer",
        "hardware",
        "tool",
        "transport",
        "education",
        "maritime",
        "navy",
        "weather",
        "holiday",
        "party",
        "religion",
        "astronomy",
        "gradient",
        "pattern",
        "style",
        "shape",
        "line",
        "text",
        "file",
        "document",
        "view",
        "bottom",
        "left",
        "right",
        "top",
        "remove",
        "one",
        "two",
        "piece",
        "light",
        "white",
        "black",
        "red",
        "green",
        "blue",
        "up",
        "down",
        "play",
        "stop",
        "box",
        "image",
        "page",
        "work",
        "open",
        "new",
        "close",
        "sound",
        "full",
        "print",
        "center",
        "mail",
        "step",
        "number",
        "note",
        "all",
        "time",
        "table",
        "style",
        "begin",
        "end",
    ]
)
_THINGS_ANYWAY = frozenset({"animal", "plant", "pattern", "arrow", "folder"})


@dataclass(frozen=True, kw_only=True)
class Picture:
    """What the questions need to know about one picture."""

    image_id: int
    title: str
    context: str
    category: str
    keywords: tuple[str, ...]
    folder: str
    content: bytes


@dataclass(frozen=True, kw_only=True)
class Vocabulary:
    """Words and categories that occur often enough in the training pictures to be asked about."""

    objects: frozenset[str]
    categories: frozenset[str]


def head_nouns(picture: Picture) -> list[str]:
    """What the picture shows, most specific first: the head of the title, then the head of its context."""
    first = re.split(r",| of | with | in | on | from | for | to | and | by ", picture.title)[0].split()
    heads = [singular(first[-1])] if first else []
    if picture.context and "flag" not in heads:  # behind a flag stands its country
        heads.append(singular(picture.context.split()[-1]))
    return [head for head in dict.fromkeys(heads) if head not in _NOT_OBJECTS or head in _THINGS_ANYWAY]


def all_words(picture: Picture) -> frozenset[str]:
    """Every word said about the picture, singular: a word outside this set is safe to answer with no."""
    text = " ".join((picture.title, picture.context, *picture.keywords, picture.folder, picture.category))
    return frozenset(singular(word) for word in re.findall(r"[a-z]+", text.lower()))


def build_vocabulary(train: Sequence[Picture]) -> Vocabulary:
    """The vocabulary of the training pictures; all splits ask about the same words."""
    words = Counter(head for picture in train for head in head_nouns(picture))
    categories = Counter(picture.category for picture in train if picture.category)
    return Vocabulary(
        objects=frozenset(word for word, count in words.items() if count >= MIN_TRAIN and len(word) > 2),
        categories=frozenset(name for name, count in categories.items() if count >= 2 * MIN_TRAIN),
    )


def singular(word: str) -> str:
    word = word.strip("'.,")
    irregular = {
        "leaves": "leaf",
        "knives": "knife",
        "people": "people",
        "scissors": "scissors",
        "teeth": "tooth",
    }
    if word in irregular:
        return irregular[word]
    if word.endswith("ies") and len(word) > 4:
        return word[:-3] + "y"
    if word.endswith(("ches", "shes", "xes", "sses")):
        return word[:-2]
    if word.endswith("s") and not word.endswith(("ss", "us", "is")) and len(word) > 3:
        return word[:-1]
    return word
