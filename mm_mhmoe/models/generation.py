"""Texts written by a language model, token by token.

Shapes: B rows, L tokens of a beginning, V vocabulary.
"""

from __future__ import annotations

import torch
from torch import Tensor

from mm_mhmoe.batch import ImageTextBatch, Texts
from mm_mhmoe.models.tasks.language import LanguageModel


@torch.no_grad()
def generate(
    model: LanguageModel,
    beginnings: Texts,
    *,
    most: int,
    pieces: int | None = None,
    top_p: float | None = None,
    temperature: float = 1.0,
    generator: torch.Generator | None = None,
) -> list[list[int]]:
    """The tokens that follow each beginning, up to and with the first end token, at most so many.

    Keys and values of earlier tokens are kept, so that each token is encoded once.

    Args:
        beginnings: at least one real token a row, padded at the end.
        pieces: of the tokenizer, where the model's table has more rows than it; the others are never written.
        top_p: draws each token among the likeliest whose probabilities reach this sum (nucleus sampling, arXiv
            1904.09751); None: always takes the likeliest.
        temperature: logits are divided by it before drawing.
        generator: of the random numbers; None: torch's own.

    Raises:
        ValueError: top_p or temperature is out of range, or a beginning leaves no place in the model's positions.
    """
    if top_p is not None and not 0 < top_p <= 1:
        raise ValueError(f"top_p={top_p} must lie in (0, 1]")
    if temperature <= 0:
        raise ValueError(f"temperature={temperature} must be positive; leave top_p out for the likeliest tokens")
    most = _room(model, beginnings, most)
    output, cache = model.encoder.decode(ImageTextBatch(texts=beginnings, causal_text=True))
    states_BLD = output.streams[0].text_BLD
    assert states_BLD is not None
    rows_B = torch.arange(len(beginnings), device=states_BLD.device)
    state_BD = states_BLD[rows_B, beginnings.valid_BL.sum(1) - 1]
    written: list[list[int]] = [[] for _ in rows_B]
    going_B = torch.ones_like(rows_B, dtype=torch.bool)
    for step in range(most):
        next_B = _choose(model.head(state_BD).float()[:, :pieces], top_p, temperature, generator)
        for row in going_B.nonzero().flatten().tolist():
            written[row].append(int(next_B[row]))
        going_B = going_B & (next_B != model.text.eos_id)
        if step == most - 1 or not going_B.any():
            break
        new = Texts(ids_BL=next_B.unsqueeze(1), valid_BL=going_B.unsqueeze(1))
        output, cache = model.encoder.decode(ImageTextBatch(texts=new, causal_text=True), cache)
        states_BLD = output.streams[0].text_BLD
        assert states_BLD is not None
        state_BD = states_BLD[:, 0]
    return written


def _room(model: LanguageModel, beginnings: Texts, most: int) -> int:
    longest = int(beginnings.valid_BL.sum(1).max())
    if model.encoder.text.positions_LD is None:
        return most
    room = model.text.num_positions - longest + 1  # the last token needs no position
    if room < 1:
        raise ValueError(f"a beginning of {longest} tokens, but the model has {model.text.num_positions} positions")
    return min(most, room)


def _choose(logits_BV: Tensor, top_p: float | None, temperature: float, generator: torch.Generator | None) -> Tensor:
    if top_p is None:
        return logits_BV.argmax(dim=1)
    prob_BV, token_BV = (logits_BV / temperature).softmax(dim=1).sort(dim=1, descending=True, stable=True)
    before_BV = prob_BV.cumsum(dim=1) - prob_BV
    kept_BV = prob_BV.masked_fill(before_BV >= top_p, 0.0)  # the likeliest always stays
    drawn_B1 = torch.multinomial(kept_BV, 1, generator=generator)
    return token_BV.gather(1, drawn_B1).squeeze(1)
