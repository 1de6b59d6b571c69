"""Sentences about two pictures, each with pairs of which as many make it true as false.

A sentence is a claim about one picture in a frame of two ("both show a flag"), or compares the two. Its pairs form a
group: as in NLVR2 (Suhr et al., ACL 2019), who sees only the sentence cannot tell which of them make it true.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import combinations

from .picture_claims import Claim, Shown

PAIRS = 4  # of a group, half of them true

Pair = tuple[int, int]
"""Numbers of the left and the right picture."""

Draw = Callable[[random.Random, bool], Pair]
"""Draws a pair that makes a sentence true, or false."""

# Each frame: how it says a claim, and whether the claim must hold of the (left, right) picture to make it true.
_FRAMES: dict[str, tuple[Callable[[Claim], str], frozenset[tuple[bool, bool]]]] = {
    "left": (lambda claim: f"the left picture {claim.singular}", frozenset({(True, False), (True, True)})),
    "right": (lambda claim: f"the right picture {claim.singular}", frozenset({(False, True), (True, True)})),
    "both": (lambda claim: f"both {claim.plural}", frozenset({(True, True)})),
    "neither": (lambda claim: f"neither {claim.singular}", frozenset({(False, False)})),
    "only one": (lambda claim: f"only one {claim.singular}", frozenset({(True, False), (False, True)})),
    "one or both": (
        lambda claim: f"one or both {claim.plural}",
        frozenset({(True, False), (False, True), (True, True)}),
    ),
}
_ALL = tuple((left, right) for left in (False, True) for right in (False, True))


@dataclass(frozen=True, kw_only=True)
class Sentence:
    """What is said, the frame it is said in, and how pairs for it are drawn."""

    text: str
    type: str
    draw: Draw


@dataclass(frozen=True, kw_only=True)
class Group:
    """A sentence with `PAIRS` pairs, and whether each makes it true."""

    sentence: Sentence
    pairs: tuple[tuple[Pair, bool], ...]


def framed(claims: Sequence[Claim]) -> list[Sentence]:
    """Every claim in every frame, where there are two pictures of which it is true, and two of which it is false."""
    return [
        Sentence(text=say(claim), type=frame, draw=partial(_draw_framed, claim, true))
        for claim in claims
        if min(len(claim.true), len(claim.false)) >= 2
        for frame, (say, true) in _FRAMES.items()
    ]


def comparing(shown: Sequence[Shown]) -> list[Sentence]:
    """Whether both pictures have one main colour, and whether both are of one category."""
    colours: dict[str, list[int]] = {}
    categories: dict[str, list[int]] = {}
    for number, each in enumerate(shown):
        if each.colours is not None:
            colours.setdefault(each.colours[0], []).append(number)
        if each.picture.category:
            categories.setdefault(each.picture.category, []).append(number)

    def unlike(left: int, right: int) -> bool:
        """No border case: the main colour of one is not even the second colour of the other."""
        first, second = shown[left].colours, shown[right].colours
        assert first is not None and second is not None
        return first[0] not in second and second[0] not in first

    said = (
        ("both have the same main color", "same color", colours, unlike),
        ("both belong to one category", "same category", categories, lambda left, right: True),
    )
    return [
        Sentence(text=text, type=name, draw=partial(_draw_compared, groups, differ))
        for text, name, groups, differ in said
        if any(len(group) >= 2 for group in groups.values()) and _can_differ(groups, differ)
    ]


def _can_differ(groups: Mapping[str, Sequence[int]], differ: Callable[[int, int], bool]) -> bool:
    return any(
        differ(left, right) for first, second in combinations(groups.values(), 2) for left in first for right in second
    )


def make_groups(families: Sequence[Sequence[Sentence]], count: int, rng: random.Random) -> list[Group]:
    """`count` groups, as many of each family of sentences; within a family, no sentence comes much oftener."""
    families = [family for family in families if family]
    if not families:
        raise ValueError("no claim is true of two pictures and false of two others; give more pictures")
    groups: list[Group] = []
    waiting: list[list[Sentence]] = [[] for _ in families]
    while len(groups) < count:
        turn = len(groups) % len(families)
        if not waiting[turn]:
            waiting[turn] = rng.sample(families[turn], len(families[turn]))
        groups.append(_group(waiting[turn].pop(), rng))
    return groups


def _group(sentence: Sentence, rng: random.Random) -> Group:
    pairs: dict[Pair, bool] = {}
    for true in (True, False):
        for _ in range(PAIRS // 2):
            pair = sentence.draw(rng, true)
            while pair in pairs:
                pair = sentence.draw(rng, true)
            pairs[pair] = true
    order = list(pairs.items())
    rng.shuffle(order)
    return Group(sentence=sentence, pairs=tuple(order))


def _draw_framed(claim: Claim, true: frozenset[tuple[bool, bool]], rng: random.Random, wanted: bool) -> Pair:
    left, right = rng.choice([case for case in _ALL if (case in true) == wanted])
    return _two(rng, claim.true if left else claim.false, claim.true if right else claim.false)


def _draw_compared(
    groups: Mapping[str, Sequence[int]], differ: Callable[[int, int], bool], rng: random.Random, wanted: bool
) -> Pair:
    if wanted:
        name = rng.choice([name for name, members in groups.items() if len(members) >= 2])
        return _two(rng, groups[name], groups[name])
    while True:
        first, second = rng.sample(list(groups), 2)
        pair = rng.choice(groups[first]), rng.choice(groups[second])
        if differ(*pair):
            return pair


def _two(rng: random.Random, left: Sequence[int], right: Sequence[int]) -> Pair:
    """One of each, never the same picture twice."""
    first = rng.choice(left)
    second = rng.choice(right)
    while second == first:
        second = rng.choice(right)
    return first, second
