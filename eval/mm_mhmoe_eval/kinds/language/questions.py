"""Questions with four choices made of held-out documents: the next paragraph, and the translation of a paragraph."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Sequence
from typing import Any, NamedTuple

from mm_mhmoe_data.language import Document
from mm_mhmoe_data.sampling import permutation

from mm_mhmoe_eval.kinds.language.choices import CHOICES, Question

_SHORTEST = 40


class _Place(NamedTuple):
    document: Document
    number: int

    @property
    def text(self) -> str:
        return self.document.paragraphs[self.number]

    @property
    def facts(self) -> dict[str, Any]:
        return self.document.facts[self.number]

    @property
    def name(self) -> str:
        """The same for translations of one paragraph."""
        return str(self.facts.get("paragraph", f"{self.document.id}/{self.number}"))

    @property
    def usable(self) -> bool:
        """Whether it is a paragraph that says something: no title, and not too short."""
        return self.facts.get("kind") != "title" and len(self.text.encode()) >= _SHORTEST


def next_paragraph_questions(documents: Sequence[Document], most: int) -> list[Question]:
    """Which of four paragraphs follows those before it in its document; the others are from other documents of the
    language. About `most` questions, equally many of each language, and always the same of the same documents."""
    places = _by_language(documents)
    each, found = -(-most // max(1, len(places))), []
    for language, own in places.items():
        asked = [place for place in own if place.number and place.usable]
        for place in _drawn(asked, each, f"next/{language}"):
            others = [other for other in own if other.usable and other.document.id != place.document.id]
            question = _question(place, others, language, place.document.paragraphs[: place.number])
            found += [question] if question else []
    return found


def translation_questions(documents: Sequence[Document], most: int, pivot: str) -> list[Question]:
    """Which of four paragraphs in another language is the translation of a paragraph, from and to the pivot language.

    Translations have the same `paragraph` in their .json. Raises ValueError without paragraphs of the pivot language.
    """
    places = _by_language(documents)
    if pivot not in places:
        raise ValueError(f"no text of the language {pivot}, with which translations are matched; there are {[*places]}")
    each, found = -(-most // max(1, 2 * len(places) - 2)), []
    for language in places:
        if language == pivot:
            continue
        for source, target in ((pivot, language), (language, pivot)):
            there = {place.name: place for place in places[target] if place.usable}
            pair = f"{source}>{target}"
            asked = [place for place in places[source] if place.usable and place.name in there]
            for place in _drawn(asked, each, pair):
                right = there[place.name]
                others = [other for name, other in there.items() if name != place.name and other.text != right.text]
                question = _question(right, others, pair, (place.text,))
                found += [question] if question else []
    return found


def _by_language(documents: Sequence[Document]) -> dict[str, list[_Place]]:
    places: defaultdict[str, list[_Place]] = defaultdict(list)
    for document in documents:
        places[document.language] += [_Place(document, number) for number in range(len(document.paragraphs))]
    return dict(sorted(places.items()))


def _drawn(asked: list[_Place], most: int, name: str) -> list[_Place]:
    return [asked[i] for i in sorted(permutation(len(asked), _number(name))[:most].tolist())]


def _question(right: _Place, others: list[_Place], group: str, context: tuple[str, ...]) -> Question | None:
    """None where there are not enough other paragraphs."""
    texts = list({other.text: None for other in others if other.text != right.text})
    if len(texts) < CHOICES - 1:
        return None
    key = f"{group}/{right.name}"
    drawn = [texts[i] for i in permutation(len(texts), _number(key))[: CHOICES - 1].tolist()]
    answer = _number(f"{key}/answer") % CHOICES
    return Question(
        key=key, group=group, context=context, choices=(*drawn[:answer], right.text, *drawn[answer:]), answer=answer
    )


def _number(name: str) -> int:
    return int.from_bytes(hashlib.blake2b(name.encode(), digest_size=6).digest(), "big")
