"""CIDEr-D (Vedantam et al., arXiv 1411.5726), as COCO's scorer computes it, where it is called CIDEr."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from mm_mhmoe_eval.captions.ngrams import LONGEST, Ngrams, count_ngrams

_SIGMA = 6.0

Words = Sequence[str]


class _Weighted(NamedTuple):
    """tf-idf weights of a text's n-grams, their norm for each n, and how many pairs of words it has."""

    weights: dict[tuple[str, ...], float]
    norms: list[float]
    pairs: int


class Cider:
    """Weighs n-grams by how few pictures have them in their references.

    Args:
        references: of every picture.
    """

    def __init__(self, references: Sequence[Sequence[Words]]) -> None:
        self._pictures: Ngrams = Counter()
        for own in references:
            self._pictures.update({ngram for reference in own for ngram in count_ngrams(reference)})
        self._log_count = math.log(max(1, len(references)))

    def score(self, caption: Words, references: Sequence[Words]) -> float:
        """From 0 to 10: ten times the mean similarity to the references, over n from 1 to 4."""
        ours = self._weighted(caption)
        return 10 * sum(_similarity(ours, self._weighted(reference)) for reference in references) / len(references)

    def most_typical(self, captions: Iterable[Words]) -> Words:
        """The caption whose n-grams, so weighted, are most like those of all the captions together.

        Raises ValueError without captions."""
        counted = Counter(tuple(caption) for caption in captions)
        if not counted:
            raise ValueError("there are no captions to choose a typical one from")
        directions = {caption: self._direction(caption) for caption in counted}
        everything: Counter[tuple[str, ...]] = Counter()
        for caption, times in counted.items():
            for ngram, weight in directions[caption].items():
                everything[ngram] += times * weight  # type: ignore[assignment]
        return max(
            sorted(counted),
            key=lambda caption: sum(weight * everything[ngram] for ngram, weight in directions[caption].items()),
        )

    def _direction(self, words: Words) -> dict[tuple[str, ...], float]:
        """Weights over norms."""
        text = self._weighted(words)
        return {ngram: weight / norm for ngram, weight in text.weights.items() if (norm := text.norms[len(ngram) - 1])}

    def _weighted(self, words: Words) -> _Weighted:
        weights, squares = {}, [0.0] * LONGEST
        for ngram, count in count_ngrams(words).items():
            weights[ngram] = count * (self._log_count - math.log(max(1, self._pictures[ngram])))
            squares[len(ngram) - 1] += weights[ngram] ** 2
        return _Weighted(weights, [math.sqrt(square) for square in squares], max(0, len(words) - 1))


def _similarity(ours: _Weighted, theirs: _Weighted) -> float:
    """Mean over n of a cosine in which no n-gram counts for more than the reference has of it, times a penalty of
    another length."""
    products = [0.0] * LONGEST
    for ngram, weight in ours.weights.items():
        other = theirs.weights.get(ngram, 0.0)
        products[len(ngram) - 1] += min(weight, other) * other
    norms = [a * b for a, b in zip(ours.norms, theirs.norms, strict=True)]
    cosines = [product / norm if norm else 0.0 for product, norm in zip(products, norms, strict=True)]
    return sum(cosines) / LONGEST * math.exp(-((ours.pairs - theirs.pairs) ** 2) / (2 * _SIGMA**2))
