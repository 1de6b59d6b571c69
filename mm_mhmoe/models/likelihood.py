"""How likely a text is, given a picture and the text before it.

Shapes: B rows, L text length, D model dim, M scored tokens.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mm_mhmoe.batch import ImageTextBatch
from mm_mhmoe.models.encoder import Encoder

Reading = Literal["masked", "causal"]
"""masked: each token from all others, hidden one after the other; what they add up to is a pseudo-log-likelihood
(arXiv 1910.14659). causal: each token from those before it, the end token included; for encoders that learnt captions
from left to right."""


@torch.no_grad()
def continuation_log_likelihood(
    encoder: Encoder, head: nn.Module, pairs: ImageTextBatch, start_B: Tensor, reading: Reading
) -> Tensor:
    """Sum (B,) in nats, fp32, over the tokens of each text from place `start_B` on.

    Args:
        head: from states to logits over the vocabulary.
        pairs: nothing hidden. Each text ends with an end token, which `masked` takes as given.
    """
    assert pairs.texts is not None
    texts = pairs.texts
    place_L = torch.arange(texts.ids_BL.shape[1], device=texts.ids_BL.device)
    length_B1 = texts.valid_BL.sum(dim=1, keepdim=True)
    scored_BL = (place_L >= start_B[:, None]) & (place_L < length_B1 - int(reading == "masked"))
    total_B = torch.zeros(len(texts), device=texts.ids_BL.device)
    if reading == "causal":
        text_BLD = _text_states(encoder, replace(pairs, causal_text=True))
        rows_M, places_M = scored_BL.nonzero(as_tuple=True)
        return total_B.index_add(0, rows_M, _log_prob(head, text_BLD[rows_M, places_M - 1], texts.ids_BL[scored_BL]))
    for further in range(int(scored_BL.sum(dim=1).max())):
        rows_M = (scored_BL.sum(dim=1) > further).nonzero()[:, 0]
        places_M = start_B[rows_M] + further
        hidden_ML = place_L == places_M[:, None]
        part = ImageTextBatch(
            images=None
            if pairs.images is None
            else replace(pairs.images, pixels_BCHW=pairs.images.pixels_BCHW[rows_M], codes_BN=None),
            texts=replace(texts, ids_BL=texts.ids_BL[rows_M], valid_BL=texts.valid_BL[rows_M], masked_BL=hidden_ML),
        )
        states_MD = _text_states(encoder, part)[hidden_ML]
        total_B = total_B.index_add(0, rows_M, _log_prob(head, states_MD, texts.ids_BL[rows_M, places_M]))
    return total_B


def _text_states(encoder: Encoder, pairs: ImageTextBatch) -> Tensor:
    text_BLD = encoder(pairs).streams[0].text_BLD
    assert text_BLD is not None
    return text_BLD


def _log_prob(head: nn.Module, states_MD: Tensor, ids_M: Tensor) -> Tensor:
    return -F.cross_entropy(head(states_MD).float(), ids_M, reduction="none")
