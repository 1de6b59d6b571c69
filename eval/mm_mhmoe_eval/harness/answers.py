"""What a language model says of lm-eval's requests. Legend: B batch, L length."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import torch
from mm_mhmoe_data.tokenizer import Tokenizer

from mm_mhmoe.models.generation import generate
from mm_mhmoe.models.tasks import LanguageModel
from mm_mhmoe_eval.harness.rows import Row, text_ids
from mm_mhmoe_eval.kinds.language.sequences import batches_by_length

MOST_TOKENS = 256
"""That are written where a task does not say how many, as by lm-eval's own models."""


class Wanted(NamedTuple):
    """How a task wants texts to be written.

    until: ends of the text, which are not part of it. most: tokens. top_p: None takes the likeliest tokens.
    """

    until: tuple[str, ...]
    most: int
    top_p: float | None
    temperature: float


def wanted(
    until: str | Sequence[str] = (),
    max_gen_toks: int = MOST_TOKENS,
    do_sample: bool = False,
    temperature: float = 1.0,
    top_p: float = 1.0,
    **unknown: Any,
) -> Wanted:
    """A task's generation_kwargs. Without do_sample the likeliest tokens are taken, whatever temperature and top_p say.

    Raises ValueError for what is not known.
    """
    if unknown:
        raise ValueError(
            f"generation_kwargs: {', '.join(unknown)} of the task is not known here; known are until, max_gen_toks, "
            "do_sample, temperature and top_p"
        )
    stops = (until,) if isinstance(until, str) else tuple(until)
    return Wanted(stops, max_gen_toks, *((top_p, temperature) if do_sample else (None, 1.0)))


def log_likelihoods(
    model: LanguageModel, rows: Sequence[Sequence[Row]], *, batch_size: int, device: torch.device | str
) -> list[tuple[float, bool]]:
    """Of what is judged in the rows of each request together: the log-likelihood in nats, and whether every token is
    the likeliest at its place. Without rows it is certain: 0 and true."""
    flat = [(request, row) for request, its_rows in enumerate(rows) for row in its_rows]
    nats, likeliest = [0.0] * len(rows), [True] * len(rows)
    for places, texts in batches_by_length([row.ids for _, row in flat], model.text, batch_size, device):
        nats_BL, likeliest_BL = (found.cpu() for found in model.token_predictions(texts))
        for place, nats_L, likeliest_L in zip(places, nats_BL.double(), likeliest_BL, strict=True):
            request, row = flat[place]
            judged = slice(len(row.ids) - 1 - row.judged, len(row.ids) - 1)
            nats[request] += nats_L[judged].sum().item()
            likeliest[request] &= bool(likeliest_L[judged].all())
    return [(-value, is_likeliest) for value, is_likeliest in zip(nats, likeliest, strict=True)]


def write(
    model: LanguageModel,
    tokenizer: Tokenizer,
    contexts: Sequence[str],
    asked: Wanted,
    *,
    batch_size: int,
    device: torch.device | str,
) -> Iterator[tuple[int, str]]:
    """The number of each context, in any order, and what is written behind it: to the end of its line at most.

    At most half of the model's length is written; of a context the end is kept that then has room.
    """
    length = model.text.max_length
    most = min(asked.most, length // 2)
    if most < asked.most:
        warnings.warn(
            f"max_gen_toks={asked.most} is more than half of the model's {length} tokens; {most} are written at most",
            stacklevel=2,
        )
    ids = [text_ids(tokenizer, context)[most - length :] for context in contexts]
    for places, texts in batches_by_length(ids, model.text, batch_size, device):
        rows = generate(
            model, texts, most=most, pieces=len(tokenizer), top_p=asked.top_p, temperature=asked.temperature
        )
        for place, row in zip(places, rows, strict=True):
            yield place, cut_at(tokenizer.decode(row), asked.until)


def cut_at(text: str, until: Iterable[str]) -> str:
    """Up to the first of these strings."""
    return text[: min((text.find(stop) for stop in until if stop and stop in text), default=len(text))]
