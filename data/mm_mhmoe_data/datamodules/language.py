"""Batches for language models."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader

from mm_mhmoe.batch import ImageTextBatch, Texts
from mm_mhmoe.config import TextConfig
from mm_mhmoe_data.datamodules.steps import OneStreamDataModule
from mm_mhmoe_data.language import PackedTexts, TokenizedTexts, language_shares, tokenized
from mm_mhmoe_data.mixture import MixedOrder
from mm_mhmoe_data.pipeline import ShardDataset
from mm_mhmoe_data.ring import Empty, step_loader
from mm_mhmoe_data.samples import Picks, in_order
from mm_mhmoe_data.sampling import Pick, ShuffledOrder, StepSampler
from mm_mhmoe_data.tokenizer import Tokenizer

_NEXT_SEED = 999_983


class LanguageDataModule(OneStreamDataModule):
    """Sequences of max_length tokens, packed from documents, of several languages in their shares: ImageTextBatch.

    Args:
        languages: only those; None: all that the shards have.
        exponent: of `language_shares`.
        documents_apart: no token sees another document's.
    """

    VAL_BATCH = 16

    def __init__(
        self,
        shards: str | Path,
        tokenizer: Tokenizer,
        text: TextConfig,
        *,
        batch_size: int,
        num_steps: int,
        seed: int = 0,
        workers: int = 0,
        languages: Sequence[str] | None = None,
        exponent: float = 0.7,
        documents_apart: bool = True,
        val_shards: str | Path | None = None,
    ) -> None:
        super().__init__(num_steps=num_steps, workers=workers, seed=seed)
        self.batch_size = batch_size
        self.texts = tokenized(ShardDataset(shards, "texts"), tokenizer, languages=languages)
        packed = PackedTexts(self.texts, text.max_length, seed=seed)
        self.shares = language_shares([len(part.ids_N) for part in self.texts], exponent)
        orders = [
            ShuffledOrder([count], seed=seed + number * _NEXT_SEED, first=first)
            for number, (count, first) in enumerate(zip(packed.counts, packed.firsts(), strict=True))
        ]
        self.order = orders[0] if len(orders) == 1 else MixedOrder(orders, self.shares, seed=seed)
        self.stream = Sequences(packed, text, documents_apart=documents_apart)
        self.val_stream: Sequences | None = None
        if val_shards is not None:
            held_out = tokenized(ShardDataset(val_shards, "texts"), tokenizer, languages=languages)
            unchanged = PackedTexts(held_out, text.max_length, shuffle=False)
            self.val_stream = Sequences(unchanged, text, documents_apart=documents_apart)

    def val_dataloader(self) -> DataLoader | list[Any]:
        if self.val_stream is None:
            return []
        stream = self.val_stream
        firsts = stream.packed.firsts()
        # One language a batch, so that each can be told apart.
        picks = [
            [Pick(0, first + pick.sample) for pick in part]
            for first, count in zip(firsts, stream.packed.counts, strict=True)
            for part in in_order(count, self.VAL_BATCH)
        ]
        return step_loader(lambda index, empty: stream(picks[index], empty), StepSampler(0, len(picks)))


class Sequences:
    """Packed sequences as batches. Keys are LANGUAGE/EPOCH/NUMBER."""

    def __init__(self, packed: PackedTexts, text: TextConfig, *, documents_apart: bool) -> None:
        self.packed = packed
        self.text = text
        self.documents_apart = documents_apart

    def __call__(self, picks: Picks, empty: Empty) -> ImageTextBatch:
        rows = [self.packed(pick) for pick in picks]
        shape = (len(rows), self.text.max_length)
        ids_BL = np.full(shape, self.text.pad_id, np.int64)
        document_BL = np.full(shape, -1, np.int64)
        for number, row in enumerate(rows):
            ids_BL[number, : len(row.ids_L)] = row.ids_L
            document_BL[number, : len(row.ids_L)] = row.document_L
        texts = Texts(
            ids_BL=torch.from_numpy(ids_BL),
            valid_BL=torch.from_numpy(document_BL >= 0),
            document_BL=torch.from_numpy(document_BL) if self.documents_apart else None,
        )
        keys = tuple(f"{row.language}/{pick.epoch}/{pick.sample}" for row, pick in zip(rows, picks, strict=True))
        return ImageTextBatch(texts=texts, keys=keys, causal_text=True)


def described(texts: Sequence[TokenizedTexts], shares: Sequence[float], most: int = 8) -> str:
    """What there is, in one line: languages with their tokens and shares."""
    ranked = sorted(zip(texts, shares, strict=True), key=lambda pair: -pair[1])
    shown = ", ".join(f"{part.language or 'no language'} {share:.1%}" for part, share in ranked[:most])
    more = f" and {len(texts) - most} more" if len(texts) > most else ""
    tokens = sum(len(part.ids_N) for part in texts)
    return f"{tokens:,} tokens in {sum(len(part.ends_D) for part in texts):,} documents; drawn: {shown}{more}"
