"""What can be claimed of one picture, and of which pictures a claim is true or false, from metadata and pixels."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from ..shards import Sample
from .colours import main_colour
from .question_words import Picture, Vocabulary, all_words, head_nouns, singular

# Categories whose pictures show one kind of thing, and how one says so. The others are collections.
CATEGORY_NOUNS = {
    "animals": "an animal",
    "buildings": "a building",
    "flags": "a flag",
    "food": "food",
    "maps": "a map",
    "music": "music",
    "people": "people",
    "plants": "a plant",
    "playing cards": "a playing card",
    "tools": "a tool",
}

# Words of the questions' vocabulary that make no sentence, or that mean the same as another one.
_NOT_SAID = {
    *("boating", "clothing", "electronic", "money", "mounted", "part", "phone", "safety", "simple", "telephone"),
    *("transportation", "unmounted"),
    *("three", "four", "five", "six", "seven", "eight", "nine", "ten"),
}


@dataclass(frozen=True, kw_only=True)
class Shown:
    """One picture of a shard, and what is known of it."""

    key: str
    picture: Picture
    colours: tuple[str, str] | None  # the main colour and the next; None where no colour clearly leads


@dataclass(frozen=True, kw_only=True)
class Claim:
    """A claim about a picture: `singular` follows "the left picture", `plural` follows "both".

    true, false: numbers of the pictures of which it is surely true, surely false. Others are in neither.
    """

    singular: str
    plural: str
    true: tuple[int, ...]
    false: tuple[int, ...]


def read_shown(samples: Iterable[Sample]) -> list[Shown]:
    """The pictures of shards that the recipe openclipart made. Raises ValueError for others."""
    shown = []
    for sample in samples:
        content = next((sample.parts[e] for e in ("webp", "png", "jpg", "jpeg") if e in sample.parts), None)
        if content is None or "json" not in sample.parts:
            raise ValueError(f"sample {sample.key} lacks a picture or a .json; statements need both")
        facts: dict[str, Any] = json.loads(sample.parts["json"])
        try:
            picture = Picture(
                image_id=int(sample.key),
                title=facts["title"],
                context=facts["caption"].removeprefix(facts["title"]).strip(" ,"),
                category=facts["category"],
                keywords=tuple(facts["keywords"]),
                folder=facts["folder"],
                content=content,
            )
        except (KeyError, ValueError) as error:
            raise ValueError(
                f"sample {sample.key} is not of the recipe openclipart ({type(error).__name__}: {error}); "
                "statements are made of its shards"
            ) from error
        colours = main_colour(content)
        shown.append(Shown(key=sample.key, picture=picture, colours=None if colours is None else colours[:2]))
    return shown


def colour_claims(shown: Sequence[Shown]) -> list[Claim]:
    """Of each main colour. It is false where the colour is neither the main nor the next one."""
    coloured = [(number, each.colours) for number, each in enumerate(shown) if each.colours is not None]
    return [
        Claim(
            singular=f"is mainly {colour}",
            plural=f"are mainly {colour}",
            true=tuple(n for n, colours in coloured if colours[0] == colour),
            false=tuple(n for n, colours in coloured if colour not in colours),
        )
        for colour in sorted({colours[0] for _, colours in coloured})
    ]


def category_claims(shown: Sequence[Shown]) -> list[Claim]:
    """Of each category in `CATEGORY_NOUNS`. It is false in another category, where no word says otherwise."""
    claims = []
    for category, noun in CATEGORY_NOUNS.items():
        said = {singular(word) for word in category.split()}
        claims.append(
            _showing(
                noun,
                [each.picture.category == category for each in shown],
                [bool(each.picture.category) and not said & all_words(each.picture) for each in shown],
            )
        )
    return claims


def object_claims(shown: Sequence[Shown], vocabulary: Vocabulary) -> list[Claim]:
    """Of each noun that titles end in often enough; `CATEGORY_NOUNS` are left to `category_claims`."""
    heads = [head_nouns(each.picture) for each in shown]
    words = [all_words(each.picture) for each in shown]
    taken = {noun.split()[-1] for noun in CATEGORY_NOUNS.values()}
    return [
        _showing(
            f"{'an' if word[0] in 'aeiou' else 'a'} {word}",
            [word in head for head in heads],
            [word not in said for said in words],
        )
        for word in sorted(vocabulary.objects - taken - _NOT_SAID)
    ]


def _showing(noun: str, true: Sequence[bool], false: Sequence[bool]) -> Claim:
    return Claim(
        singular=f"shows {noun}",
        plural=f"show {noun}",
        true=tuple(n for n, holds in enumerate(true) if holds),
        false=tuple(n for n, fails in enumerate(false) if fails and not true[n]),
    )
