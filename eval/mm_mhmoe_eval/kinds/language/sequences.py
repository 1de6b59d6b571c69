"""Sequences of tokens through a language model. Legend: B batch, L length."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from mm_mhmoe_data.collate import collate_texts
from torch import Tensor

from mm_mhmoe.batch import Texts
from mm_mhmoe.config import TextConfig
from mm_mhmoe_eval.kinds.scored import ScoredData
from mm_mhmoe_eval.protocol import PredictsTokens


def predictor(model: object, kind: str) -> PredictsTokens:
    """The model as one that predicts tokens. Raises ValueError if it is none."""
    if not isinstance(model, PredictsTokens):
        raise ValueError(
            f"{type(model).__name__} does not predict the next token; a task of kind {kind} needs a language model"
        )
    return model


def windows(ids: Sequence[int], length: int) -> list[Sequence[int]]:
    """A long sequence in pieces of at most that length, each beginning with the last token of the one before, so that
    every token but the first is predicted once."""
    return [ids[start : start + length] for start in range(0, max(1, len(ids) - 1), length - 1)]


def batches_by_length(
    sequences: Sequence[Sequence[int]], text: TextConfig, batch_size: int, device: torch.device | str
) -> Iterator[tuple[list[int], Texts]]:
    """Sequences of like length together: which they are, and the batch that they make."""
    by_length = sorted(range(len(sequences)), key=lambda place: len(sequences[place]))
    for start in range(0, len(by_length), batch_size):
        places = by_length[start : start + batch_size]
        texts = collate_texts([sequences[place] for place in places], text.pad_id, text.max_length)
        yield places, texts.to(device)


def sequence_nats(model: PredictsTokens, sequences: Sequence[Sequence[int]], data: ScoredData) -> list[Tensor]:
    """Of each sequence the nats of every token but the first, in fp64 on the CPU."""
    found: list[Tensor] = [torch.empty(0)] * len(sequences)
    for places, texts in batches_by_length(sequences, model.text, data.batch_size, data.device):
        nats_BL = model.token_nats(texts).double().cpu()
        for place, nats_L in zip(places, nats_BL, strict=True):
            found[place] = nats_L[: len(sequences[place]) - 1]
    return found
