"""NLVR2's accuracy and consistency, and what the sentence alone gives."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol


class Judged(Protocol):
    """What is needed of a statement."""

    @property
    def identifier(self) -> str: ...
    @property
    def sentence(self) -> str: ...
    @property
    def label(self) -> bool: ...
    @property
    def type(self) -> str: ...


@dataclass(frozen=True, kw_only=True)
class NLVR2Scores:
    """accuracy: share of statements judged rightly. consistency: share of groups of which all were.

    by_statement: whether each was, in the order given. by_group: whether all of a group were.
    by_type: accuracy of each type of sentence, where statements have one; type_counts: how many they are.
    """

    accuracy: float
    consistency: float
    by_statement: tuple[bool, ...]
    by_group: dict[str, bool]
    by_type: dict[str, float]
    type_counts: dict[str, int]


def group_of(identifier: str) -> str:
    """A sentence's group: SPLIT-SET-PAIR-SENTENCE without the pair, as in the official script (lil-lab/nlvr).

    Raises ValueError for an identifier of another form.
    """
    parts = identifier.split("-")
    if len(parts) != 4:
        raise ValueError(f"identifier {identifier!r} is not SPLIT-SET-PAIR-SENTENCE, by which consistency is counted")
    return "-".join((*parts[:2], "", *parts[3:]))


def nlvr2_scores(predictions: Mapping[str, bool], statements: Iterable[Judged]) -> NLVR2Scores:
    """The official scores of all statements. Raises ValueError where one has no prediction, or comes twice."""
    right: dict[str, bool] = {}
    groups: dict[str, bool] = {}
    types: defaultdict[str, list[bool]] = defaultdict(list)
    for statement in statements:
        name = statement.identifier
        if name not in predictions:
            raise ValueError(f"statement {name} has no prediction; judge all of them")
        if name in right:
            raise ValueError(f"statement {name} is there twice; identifiers must differ")
        right[name] = predictions[name] == statement.label
        group = group_of(name)
        groups[group] = groups.get(group, True) and right[name]
        if statement.type:
            types[statement.type].append(right[name])
    if not right:
        raise ValueError("there is no statement to score")
    return NLVR2Scores(
        accuracy=_share(list(right.values())),
        consistency=_share(list(groups.values())),
        by_statement=tuple(right.values()),
        by_group=groups,
        by_type={name: _share(values) for name, values in sorted(types.items())},
        type_counts={name: len(values) for name, values in sorted(types.items())},
    )


def sentence_only_baseline(train: Iterable[Judged], test: Sequence[Judged]) -> NLVR2Scores:
    """The scores of a judge that never sees the pictures: it says what is commoner in train for the same sentence (but
    for case), else what is commoner of all; true where both are as common.
    """
    votes: Counter[str] = Counter()
    overall = 0
    for statement in train:
        vote = 1 if statement.label else -1
        votes[statement.sentence.lower()] += vote
        overall += vote
    return nlvr2_scores({s.identifier: votes.get(s.sentence.lower(), overall) >= 0 for s in test}, test)


def guessing_consistency(identifiers: Iterable[str]) -> float:
    """Expected consistency of judging by a coin."""
    sizes = Counter(map(group_of, identifiers))
    return sum(0.5**size for size in sizes.values()) / len(sizes)


def predictions_csv(predictions: Mapping[str, bool]) -> str:
    """What the official script reads: a line `identifier,True` or `identifier,False` a statement, without a header."""
    return "".join(f"{identifier},{answer}\n" for identifier, answer in predictions.items())


def _share(values: Sequence[bool]) -> float:
    return sum(values) / len(values)
