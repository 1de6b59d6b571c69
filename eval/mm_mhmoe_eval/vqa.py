"""The official VQAv2 score, and how far one gets without looking at the picture."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

from mm_mhmoe_data.vqa_normalise import normalise, normalise_punctuation, strip_space

Rules = Literal["2021", "2017"]
"""The two states of the official code. 2021 (current): prediction and ground truth are both fully normalised,
and only where the ten answers differ. 2017 (used for most published numbers up to 2021): the prediction
always is, the ground truth only its punctuation and only where the answers differ; spaces at its ends stay."""

_FEWEST_ANSWERS = 4


class Question(Protocol):
    """What the score needs of a question; `answers` are those of the people who were asked, ten in VQAv2."""

    @property
    def question_id(self) -> int: ...
    @property
    def question(self) -> str: ...
    @property
    def question_type(self) -> str: ...
    @property
    def answer_type(self) -> str: ...
    @property
    def answers(self) -> Sequence[str]: ...


@dataclass(frozen=True, kw_only=True)
class VQAScores:
    """Fractions in [0, 1]. The official code prints percent, rounded to two digits.

    counts: questions of each type, keyed like the scores.
    by_question: question id -> its score.
    """

    overall: float
    by_question_type: dict[str, float]
    by_answer_type: dict[str, float]
    questions: int
    question_type_counts: dict[str, int]
    answer_type_counts: dict[str, int]
    by_question: dict[int, float] = field(repr=False)

    def metrics(self) -> dict[str, float]:
        """Flat, as records and reports have them: vqa, vqa_answer_type/<type>, vqa_question_type/<type>."""
        return {
            "vqa": self.overall,
            **{f"vqa_answer_type/{name}": value for name, value in self.by_answer_type.items()},
            **{f"vqa_question_type/{name}": value for name, value in self.by_question_type.items()},
        }


def vqa_accuracy(prediction: str, answers: Sequence[str], *, rules: Rules = "2021") -> float:
    """The official score of one answer: the mean of min(matches / 3, 1) over the sets without one person.

    Raises ValueError for fewer than 4 answers, where even a right one would not score 1.
    """
    if len(answers) < _FEWEST_ANSWERS:
        raise ValueError(
            f"answers={list(answers)!r}: the VQAv2 score needs at least {_FEWEST_ANSWERS} (VQAv2 has 10); "
            "repeat a single true answer ten times"
        )
    prediction = strip_space(prediction)
    if rules == "2021":
        truths = [strip_space(answer) for answer in answers]
        if len(set(truths)) > 1:
            prediction, truths = normalise(prediction), [normalise(truth) for truth in truths]
    elif rules == "2017":
        prediction, truths = normalise(prediction), list(answers)
        if len(set(truths)) > 1:
            truths = [normalise_punctuation(truth) for truth in truths]
    else:
        raise ValueError(f"rules={rules!r} is not one of 2021, 2017")
    matches = truths.count(prediction)
    # Leaving out one of the matching people takes one match away; leaving out another takes none.
    without_match, without_other = min((matches - 1) / 3, 1.0), min(matches / 3, 1.0)
    return (matches * without_match + (len(truths) - matches) * without_other) / len(truths)


def vqa_scores(predictions: Mapping[int, str], examples: Iterable[Question], *, rules: Rules = "2021") -> VQAScores:
    """The official score over all examples, by question type and by answer type.

    Args:
        predictions: question id -> answer.
        examples: objects with question_id, question, question_type, answer_type, answers.
        rules: state of the official code; see `Rules`.

    Raises ValueError when a question has no prediction, when ids repeat, or when there is no question.
    """
    by_question: dict[int, float] = {}
    by_question_type: defaultdict[str, list[float]] = defaultdict(list)
    by_answer_type: defaultdict[str, list[float]] = defaultdict(list)
    missing: list[int] = []
    for example in examples:
        if example.question_id in by_question:
            raise ValueError(f"question_id={example.question_id} is there twice; ids must differ")
        if example.question_id not in predictions:
            missing.append(example.question_id)
            continue
        score = vqa_accuracy(predictions[example.question_id], example.answers, rules=rules)
        by_question[example.question_id] = score
        by_question_type[example.question_type].append(score)
        by_answer_type[example.answer_type].append(score)
    if missing:
        raise ValueError(
            f"{len(missing)} questions have no prediction, the first being {missing[:3]}; "
            "answer every question, or leave these out of the examples"
        )
    if not by_question:
        raise ValueError("there is no question to score")
    return VQAScores(
        overall=_mean(by_question.values()),
        by_question_type={name: _mean(values) for name, values in sorted(by_question_type.items())},
        by_answer_type={name: _mean(values) for name, values in sorted(by_answer_type.items())},
        questions=len(by_question),
        question_type_counts={name: len(values) for name, values in sorted(by_question_type.items())},
        answer_type_counts={name: len(values) for name, values in sorted(by_answer_type.items())},
        by_question=by_question,
    )


@dataclass(frozen=True, kw_only=True)
class Baseline:
    """A baseline's answers to the test questions, their scores, and how often each rule gave the answer."""

    predictions: dict[int, str]
    scores: VQAScores
    rule_counts: dict[str, int]


def question_only_baseline(train: Iterable[Question], test: Iterable[Question], *, rules: Rules = "2021") -> Baseline:
    """The strongest simple answerer that never sees the picture, to hold a model against.

    To a question that train holds word for word (but for case and outer space) it gives the answer that would
    have scored best on train's copies of that question; else the best answer of the question type; else the
    best of all. Best of equals is the commonest, then the first by alphabet, so the result does not depend on
    order.
    """
    pools: dict[tuple[str, str], list[Question]] = defaultdict(list)
    for example in train:
        for key in _pool_keys(example):
            pools[key].append(example)
    if not pools:
        raise ValueError("the question-only baseline needs at least one training question")
    best: dict[tuple[str, str], str] = {}
    predictions: dict[int, str] = {}
    rule_counts: Counter[str] = Counter()
    asked = list(test)
    for example in asked:
        key = next(key for key in _pool_keys(example) if key in pools)
        if key not in best:
            best[key] = _best_answer(pools[key], rules)
        predictions[example.question_id] = best[key]
        rule_counts[key[0]] += 1
    return Baseline(
        predictions=predictions,
        scores=vqa_scores(predictions, asked, rules=rules),
        rule_counts=dict(rule_counts),
    )


def official_results(predictions: Mapping[int, str]) -> list[dict[str, Any]]:
    """The results file that the VQA server takes: a list of {"question_id", "answer"}."""
    return [{"question_id": number, "answer": answer} for number, answer in sorted(predictions.items())]


def _pool_keys(example: Question) -> tuple[tuple[str, str], ...]:
    exact = " ".join(example.question.lower().split())
    return ("question", exact), ("question_type", example.question_type), ("all", "")


def _best_answer(examples: Sequence[Question], rules: Rules) -> str:
    said = Counter(strip_space(answer) for example in examples for answer in example.answers)
    grouped = Counter(tuple(sorted(example.answers)) for example in examples)

    def gain(answer: str) -> float:
        return sum(count * vqa_accuracy(answer, answers, rules=rules) for answers, count in grouped.items())

    gains = {answer: gain(answer) for answer in said}
    return min(said, key=lambda answer: (-round(gains[answer], 9), -said[answer], answer))


def _mean(values: Iterable[float]) -> float:
    listed = list(values)
    return sum(listed) / len(listed)
