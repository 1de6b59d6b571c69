"""Questions and answers about the pictures of one split, in the two files of the VQAv2 format.

Every question comes from metadata or pixels, so its answer is known; what a question text alone gives away is
kept small: asked words are balanced between yes and no, and no answer may dominate its question type.
"""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from .colours import main_colour
from .question_words import Picture, Vocabulary, all_words, head_nouns

_CONTINENTS = frozenset({"africa", "america", "asia", "europe", "oceania"})
_OBJECT_QUESTIONS = ("what is shown in the picture?", "what is this a picture of?")
_CATEGORY_QUESTION = "which category does this picture belong to?"
_COLOUR_QUESTION = "what is the main color?"
_CONTINENT_QUESTION = "which continent is this flag from?"
# the largest share of one answer within its question type
_CAPS = {"what is": 0.12, "which category": 0.12, "what color": 0.2, "which continent": 0.27}


@dataclass(frozen=True, kw_only=True)
class Question:
    """One question with its ten answers, most frequent first."""

    image_id: int
    text: str
    question_type: str
    answer_type: str
    answers: tuple[str, ...]


def make_questions(
    pictures: Sequence[Picture], vocabulary: Vocabulary, *, seed: str, limit: int | None = None
) -> list[Question]:
    """The questions of one split, ordered by picture. At most `limit`, taken evenly from all types."""
    rng = random.Random(f"questions {seed}")
    groups: dict[str, list[Question]] = {
        "what is": _objects(pictures, vocabulary, rng),
        "which category": _categories(pictures, vocabulary),
        "what color": _colours(pictures),
        "which continent": _continents(pictures),
    }
    for name, questions in groups.items():
        groups[name] = _cap_answers(questions, _CAPS[name], rng)
    pairs = _yes_no(pictures, vocabulary, rng)
    share = 1.0
    if limit is not None:
        share = min(1.0, limit / max(1, sum(map(len, groups.values())) + 2 * len(pairs)))
    chosen: list[Question] = []
    for questions in groups.values():
        rng.shuffle(questions)
        chosen.extend(questions[: int(len(questions) * share)])
    rng.shuffle(pairs)
    for yes, no in pairs[: int(len(pairs) * share)]:  # in pairs, so that thinning keeps every word balanced
        chosen.extend((yes, no))
    return sorted(chosen, key=lambda question: (question.image_id, question.question_type, question.text))


def _objects(pictures: Sequence[Picture], vocabulary: Vocabulary, rng: random.Random) -> list[Question]:
    questions = []
    for picture in pictures:
        known = [head for head in head_nouns(picture) if head in vocabulary.objects]
        if known:
            text = rng.choice(_OBJECT_QUESTIONS)
            questions.append(_certain(picture, text, "what is", known[0]))
    return questions


def _categories(pictures: Sequence[Picture], vocabulary: Vocabulary) -> list[Question]:
    return [
        _certain(picture, _CATEGORY_QUESTION, "which category", picture.category)
        for picture in pictures
        if picture.category in vocabulary.categories
    ]


def _colours(pictures: Sequence[Picture]) -> list[Question]:
    """Ten annotators would not agree on a border case: the answers follow the pixel shares of two colours."""
    questions = []
    for picture in pictures:
        found = main_colour(picture.content)
        if found is None:
            continue
        first, second, share = found
        others = min(4, round(10 * (1 - share))) if second else 0
        answers = (first,) * (10 - others) + (second,) * others
        questions.append(
            Question(
                image_id=picture.image_id,
                text=_COLOUR_QUESTION,
                question_type="what color",
                answer_type="other",
                answers=answers,
            )
        )
    return questions


def _continents(pictures: Sequence[Picture]) -> list[Question]:
    return [
        _certain(picture, _CONTINENT_QUESTION, "which continent", continent)
        for picture in pictures
        for continent in sorted(_CONTINENTS & set(picture.folder.split("/")))
        if picture.title.startswith(("flag of", "historic flag of"))
    ]


def _yes_no(pictures: Sequence[Picture], vocabulary: Vocabulary, rng: random.Random) -> list[tuple[Question, Question]]:
    """For every asked word or colour, and every wording, as many pictures answer yes as answer no."""
    words = {picture.image_id: all_words(picture) for picture in pictures}
    heads = {picture.image_id: head_nouns(picture) for picture in pictures}
    colours = {picture.image_id: main_colour(picture.content) for picture in pictures}
    pairs = []
    for word in sorted(vocabulary.objects):
        article = "an" if word[0] in "aeiou" else "a"
        texts = (f"is this {article} {word}?", f"does the picture show {article} {word}?")
        positive = [picture for picture in pictures if word in heads[picture.image_id]]
        negative = [picture for picture in pictures if word not in words[picture.image_id]]
        pairs.extend(_balanced(positive, negative, texts, "is this", rng))
    coloured = [picture for picture in pictures if colours[picture.image_id] is not None]
    for colour in sorted({(colours[picture.image_id] or ("",))[0] for picture in coloured}):
        positive = [picture for picture in coloured if (colours[picture.image_id] or ("",))[0] == colour]
        negative = [picture for picture in coloured if colour not in (colours[picture.image_id] or ())]
        pairs.extend(_balanced(positive, negative, (f"is the main color {colour}?",), "is the color", rng))
    return pairs


def _balanced(
    positive: Sequence[Picture],
    negative: Sequence[Picture],
    texts: Sequence[str],
    question_type: str,
    rng: random.Random,
) -> list[tuple[Question, Question]]:
    count = min(len(positive), len(negative), max(8, (len(positive) + len(negative)) // 25))
    pairs = []
    for yes, no in zip(rng.sample(positive, count), rng.sample(negative, count), strict=True):
        text = rng.choice(texts)  # one wording for both, or the wording would tell
        pairs.append((_certain(yes, text, question_type, "yes"), _certain(no, text, question_type, "no")))
    return pairs


def _certain(picture: Picture, text: str, question_type: str, answer: str) -> Question:
    answer_type = "yes/no" if answer in ("yes", "no") else "other"
    return Question(
        image_id=picture.image_id,
        text=text,
        question_type=question_type,
        answer_type=answer_type,
        answers=(answer,) * 10,
    )


def _cap_answers(questions: list[Question], cap: float, rng: random.Random) -> list[Question]:
    """Drop questions with too frequent answers until no answer exceeds the share `cap` of what is left."""
    by_answer: dict[str, list[Question]] = defaultdict(list)
    for question in questions:
        by_answer[question.answers[0]].append(question)
    sizes = {answer: len(group) for answer, group in by_answer.items()}
    if len(sizes) * cap <= 1.0:  # too few answers to keep the share: level them all
        ceiling = min(sizes.values(), default=0)
    else:
        ceiling = max(sizes.values(), default=0)
        while ceiling > cap * sum(min(size, ceiling) for size in sizes.values()) and ceiling > 1:
            ceiling -= 1
    kept = []
    for answer in sorted(by_answer):
        group = by_answer[answer]
        kept.extend(group if len(group) <= ceiling else rng.sample(group, ceiling))
    return kept
