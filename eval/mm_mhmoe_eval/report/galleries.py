"""What models said for single samples: some that the first of them got right and some that it got wrong, as cards."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch

from mm_mhmoe_eval.comparison.systems import System
from mm_mhmoe_eval.report_data import PictureURI

Sample = Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What one model said. score: 1 right, 0 wrong. hits: pictures that it put first, and which is the right one."""

    name: str
    text: str
    score: float
    hits: tuple[tuple[PictureURI, bool], ...] = ()


@dataclass(frozen=True, kw_only=True)
class Card:
    """keys: of the pictures, in the shards."""

    keys: tuple[str, ...]
    pictures: tuple[PictureURI, ...]
    asked: str
    truth: str
    answers: tuple[Answer, ...]


@dataclass(frozen=True, kw_only=True)
class CardGallery:
    """rule: how the cards were chosen."""

    title: str
    rule: str
    cards: tuple[Card, ...]


class _View(NamedTuple):
    """A sample as a card shows it, with keys in place of pictures."""

    keys: tuple[str, ...]
    asked: str
    truth: str
    said: str
    score: float
    hits: Sequence[str] = ()


def galleries(
    task: str,
    kind: str,
    systems: Sequence[System],
    picture: Callable[[str], PictureURI],
    *,
    count: int = 12,
    seed: int = 0,
) -> list[CardGallery]:
    """Cards of a task; empty where its kind has no cards or no system has logged samples.

    Args:
        systems: those that were scored on the same samples.
        picture: the picture of a key.
        count: cards at most, half of them of right answers, as far as there are any.
        seed: of the draw.
    """
    logged = [(system.name, samples) for system in systems if (samples := system.samples(task))]
    if not logged or kind not in VIEWS:
        return []
    first = logged[0][1]
    order = torch.randperm(len(first), generator=torch.Generator().manual_seed(seed)).tolist()
    return [
        CardGallery(
            title=title,
            rule=f"The first answers of {logged[0][0]} that are right, and the first that are not, in a random draw "
            f"with seed {seed}; nobody picked them.",
            cards=tuple(_card(view, logged, number, picture) for number in _chosen(view, first, order, count)),
        )
        for title, view in VIEWS[kind]
    ]


def _chosen(view: Callable[[Sample], _View], samples: Sequence[Sample], order: Sequence[int], count: int) -> list[int]:
    right = [number for number in order if view(samples[number]).score >= 0.9995]
    wrong = [number for number in order if view(samples[number]).score < 0.9995]
    half = count // 2
    kept = max(half, count - len(wrong))
    return right[:kept] + wrong[: count - len(right[:kept])]


def _card(
    view: Callable[[Sample], _View],
    logged: Sequence[tuple[str, Sequence[Sample]]],
    number: int,
    picture: Callable[[str], PictureURI],
) -> Card:
    shown = view(logged[0][1][number])
    answers = []
    for name, samples in logged:
        said = view(samples[number])
        hits = tuple((picture(key), key in said.keys) for key in said.hits)
        answers.append(Answer(name=name, text=said.said, score=said.score, hits=hits))
    return Card(
        keys=shown.keys,
        pictures=tuple(map(picture, shown.keys)),
        asked=shown.asked,
        truth=shown.truth,
        answers=tuple(answers),
    )


def _by_rank(rank: int) -> float:
    """Found at once; among the first five; not."""
    return 1.0 if rank == 1 else 0.5 if rank <= 5 else 0.0


def _text_query(sample: Sample) -> _View:
    rank = sample["image_rank"]
    hits = sample.get("top_images", ())
    return _View((sample["key"],), sample["caption"], "", f"rank {rank:,}", _by_rank(rank), hits)


def _picture_query(sample: Sample) -> _View:
    rank = sample["text_rank"]
    said = sample.get("top_captions", ("",))[0]
    return _View((sample["key"],), "", sample["caption"], f"{said} (own caption: rank {rank:,})", _by_rank(rank))


def _question(sample: Sample) -> _View:
    answers = sample["answers"]
    truth = max(dict.fromkeys(answers), key=answers.count) if answers else ""
    return _View((sample["image_key"],), sample["question"], truth, sample["answer"], sample["score"])


def _statement(sample: Sample) -> _View:
    said = str(sample["probability"] > 0.5).lower()
    truth = str(bool(sample["label"])).lower()
    return _View((sample["left"], sample["right"]), sample["sentence"], truth, said, float(sample["correct"]))


def _class(sample: Sample) -> _View:
    return _View((sample["key"],), "", sample["class"], sample["top"][0], float(sample["correct"]))


def _caption(sample: Sample) -> _View:
    """Right: what a person said; partly: words of it."""
    said, references, cider = sample["caption"], sample["references"], sample.get("cider_python", 0.0)
    score = 1.0 if said in references else 0.5 if cider > 0 else 0.0
    return _View((sample["key"],), "", references[0] if references else "", said, score)


_RETRIEVAL = (("A caption looks for its picture", _text_query), ("A picture looks for its caption", _picture_query))
_CLASSES = (("Classes", _class),)
VIEWS: Mapping[str, Sequence[tuple[str, Callable[[Sample], _View]]]] = {
    "retrieval": _RETRIEVAL,
    "vqa": (("Questions", _question),),
    "nlvr2": (("Sentences about two pictures", _statement),),
    "captioning": (("Captions", _caption),),
    "classification": _CLASSES,
    "zero_shot": _CLASSES,
    "probe": _CLASSES,
}
"""Of each kind of tasks, what its cards show, by their headings."""
