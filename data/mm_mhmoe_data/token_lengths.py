"""How long the captions of shards are for a tokenizer, and which of them a model would cut."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import islice

from mm_mhmoe_data.pipeline import ShardDataset
from mm_mhmoe_data.samples import CaptionLines, captions_of
from mm_mhmoe_data.shards import Shard
from mm_mhmoe_data.shards.indexed import SampleError
from mm_mhmoe_data.stats import listed_percentiles, percentiles
from mm_mhmoe_data.tokenizer import Tokenizer

_AT_ONCE = 4096


@dataclass(frozen=True, kw_only=True)
class TokenLengths:
    """Captions, how many of them are longer than `max_length` tokens, and percentiles of their lengths."""

    captions: int
    cut: int
    max_length: int
    percentiles: dict[int, int]

    def rows(self) -> list[tuple[str, str]]:
        """The numbers as rows of `ShardStats.table`."""
        share = f"{self.cut:,} of {self.captions:,} ({self.cut / max(1, self.captions):.2%})"
        return [
            ("caption length in tokens, percentiles", listed_percentiles(self.percentiles)),
            (f"cut at {self.max_length} tokens", share),
        ]


def token_lengths(
    shards: Sequence[Shard], tokenizer: Tokenizer, *, max_length: int, captions: CaptionLines = "auto"
) -> TokenLengths:
    """Reads and tokenizes every caption. Begin and end token count; captions that are no UTF-8 do not.

    Args:
        captions: which captions a sample has, as in `samples.Captions`.

    Raises:
        ShardError: a shard is broken.
        ValueError: no sample has a text.
    """
    dataset, lengths = ShardDataset(shards, "texts"), []
    texts = _captions(dataset, captions)
    while some := list(islice(texts, _AT_ONCE)):
        lengths += [len(ids) + 2 for ids in tokenizer.encode_all(some)]
    return TokenLengths(
        captions=len(lengths),
        cut=sum(length > max_length for length in lengths),
        max_length=max_length,
        percentiles=percentiles(lengths),
    )


def _captions(dataset: ShardDataset, captions: CaptionLines) -> Iterator[str]:
    for index in range(len(dataset)):
        with suppress(SampleError):
            yield from captions_of(dataset, index, captions)
