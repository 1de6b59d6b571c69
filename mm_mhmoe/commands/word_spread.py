"""Whether ambiguous words spread over more experts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from mm_mhmoe_data.pipeline import ShardDataset
from mm_mhmoe_data.tokenizer import UNK, Tokenizer
from mm_mhmoe_eval.results import bootstrap_interval

from mm_mhmoe.analysis.ambiguity import ambiguity, word_categories, words_of_pieces
from mm_mhmoe.analysis.figures.diversity import WordPoints
from mm_mhmoe.analysis.rank_correlation import partial_spearman, spearman
from mm_mhmoe.analysis.routing_sums import distinct_experts
from mm_mhmoe.commands.routing_record import RoutingRecord

FEWEST_WORDS = 10


def words_with_places(tokenizer: Tokenizer, caption: str, max_length: int) -> list[tuple[str, list[int]]]:
    """The words of a caption with the places of their tokens in the encoder's text; begin token at 0.

    A word that the encoder's length cuts off, and a word with an unknown piece, is left out.
    """
    ids = tokenizer.encode(caption, max_length)[1:-1]
    pieces = [tokenizer.piece(i) for i in tokenizer.encode(caption, 1 << 20)[1:-1]]
    unknown = tokenizer.piece(UNK)
    return [
        (word, [place + 1 for place in places])
        for word, places in words_of_pieces(pieces)
        if max(places) < len(ids) and not any(pieces[place] == unknown for place in places)
    ]


def ambiguous_words(
    dataset: ShardDataset, tokenizer: Tokenizer, *, field: str, fewest: int
) -> dict[str, tuple[float, int]]:
    """Word -> (ambiguity, captions that hold it) of the words in at least `fewest` captions.

    Args:
        field: of a sample's .json, a string: the category of its picture. Samples without it do not count.
    """
    captions = []
    for index in range(len(dataset)):
        category = dataset.metadata(index).get(field)
        if isinstance(category, str):
            words = [word for word, _ in words_with_places(tokenizer, dataset.caption(index), 1 << 20)]
            captions.append((words, category))
    return {
        word: (ambiguity(categories), categories.total())
        for word, categories in word_categories(captions).items()
        if categories.total() >= fewest
    }


def word_diversity(
    record: RoutingRecord, captions: Sequence[str], tokenizer: Tokenizer, max_length: int, num_experts: int
) -> dict[str, float]:
    """Word -> different first choices of a token of it: mean over its pieces, its captions and the sparse layers.

    Args:
        captions: of the samples of the record, in its order.
    """
    per_layer = [distinct_experts(first_TH, num_experts).double() for first_TH in record.text_TH.values()]
    distinct_T = torch.stack(per_layer).mean(dim=0)
    seen: dict[str, list[float]] = {}
    start = 0
    for caption in captions:
        for word, places in words_with_places(tokenizer, caption, max_length):
            seen.setdefault(word, []).append(distinct_T[[start + place for place in places]].mean().item())
        start += len(tokenizer.encode(caption, max_length))
    assert start == len(distinct_T)
    return {word: sum(values) / len(values) for word, values in seen.items()}


def word_points(
    words: Mapping[str, tuple[float, int]], diversity: Mapping[str, float], *, seed: int
) -> WordPoints | None:
    """Words that have both numbers, with the correlation over words; None where they are too few."""
    shared = sorted(words.keys() & diversity.keys())
    if len(shared) < FEWEST_WORDS:
        return None
    across, captions = zip(*(words[word] for word in shared), strict=True)
    x, y, often = (torch.tensor(v, dtype=torch.float64) for v in (across, [diversity[w] for w in shared], captions))

    def resampled(drawn: torch.Tensor) -> torch.Tensor:
        places = drawn.long()
        return spearman(x[places], y[places])

    return WordPoints(
        words=shared,
        ambiguity=x.tolist(),
        diversity=y.tolist(),
        captions=list(captions),
        correlation=spearman(x, y).item(),
        interval=bootstrap_interval([float(i) for i in range(len(shared))], seed=seed, statistic=resampled),
        partial=partial_spearman(x, y, often).item(),
    )
