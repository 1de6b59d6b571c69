"""The likeliest texts that a model can write, by beam search.

Legend: B texts, K beams, R = B K rows, T tokens so far, V vocabulary, C candidates.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class SearchOptions:
    """How a text is looked for.

    Args:
        beams: beginnings of a text that are followed at a time; 1: the likeliest token is taken each time (greedy).
        length_penalty: a text's score is its log probability divided by the number of its tokens, the end token among
            them, to this power; 0 prefers short texts (BEiT-3: 0.6).
        max_length: longest text in tokens, begin and end token included; null: the encoder's text.max_length.
        no_repeat: no sequence of this many tokens comes twice in a text; 0: they may.
    """

    beams: int = 3
    length_penalty: float = 0.6
    max_length: int | None = None
    no_repeat: int = 0

    def __post_init__(self) -> None:
        if self.beams < 1:
            raise ValueError(f"search.beams={self.beams} must be 1 or more; 1 is greedy")
        if self.length_penalty < 0:
            raise ValueError(f"search.length_penalty={self.length_penalty} must be 0 or more")
        if self.max_length is not None and self.max_length < 3:
            raise ValueError(f"search.max_length={self.max_length} leaves no room for a token; use 3 or more")
        if self.no_repeat < 0:
            raise ValueError(f"search.no_repeat={self.no_repeat} must be 0 (off) or a number of tokens")

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


class Writer(Protocol):
    """Knows how likely each next token is, for rows of texts that grow by a token at a time."""

    def begin(self) -> Tensor:
        """Log probabilities of each text's first token: (B, V)."""

    def go_on(self, from_R: Tensor, tokens_R: Tensor) -> Tensor:
        """Those of the next tokens of rows which are each a row of the last call (from_R) and one token: (R, V)."""


class Written(NamedTuple):
    """Tokens of a text, without begin and end, and its score: log probability over length to the length penalty."""

    tokens: list[int]
    score: float


class _Beams(NamedTuple):
    """Beginnings of the texts that are not found yet.

    text_B:     which texts these are.
    tokens_BKT: what was written.
    logp_BK:    its log probability.
    """

    text_B: Tensor
    tokens_BKT: Tensor
    logp_BK: Tensor


@torch.no_grad()
def beam_search(
    writer: Writer, options: SearchOptions, *, max_tokens: int, end: int, never: Sequence[int] = ()
) -> list[Written]:
    """The best-scored text that is found for each row of the writer. All are searched at the same time.

    At each step the likeliest continuations of a text's beams are looked at one after the other: those that end are
    candidates for the result, the others are the next beams, until there are enough. The search for a text stops when
    no beam can reach a better score than its best candidate. What has `max_tokens` tokens is ended there.

    Args:
        max_tokens: of a text, the end token among them.
        end: id of the end token.
        never: ids that are not written.
    """
    logp_RV = writer.begin()
    texts, device = len(logp_RV), logp_RV.device
    best = [Written([], float("-inf")) for _ in range(texts)]
    beams = _Beams(
        text_B=torch.arange(texts, device=device),
        tokens_BKT=torch.empty(texts, 1, 0, dtype=torch.long, device=device),
        logp_BK=logp_RV.new_zeros(texts, 1),
    )
    for length in range(1, max_tokens + 1):
        last = length == max_tokens
        logp_RV = logp_RV.masked_fill(_forbidden(beams, logp_RV, options, end if last else None, never), float("-inf"))
        logp_BC, beam_BC, token_BC = _likeliest(beams, logp_RV, 2 * options.beams)
        _keep_ended(best, beams, logp_BC / length**options.length_penalty, beam_BC, token_BC == end, options.beams)
        if last:
            break
        goes_on_BK = (token_BC == end).to(torch.uint8).argsort(dim=1, stable=True)[:, : options.beams]
        logp_BK, beam_BK, token_BK = (part_BC.gather(1, goes_on_BK) for part_BC in (logp_BC, beam_BC, token_BC))
        best_B = logp_BK.new_tensor([best[text].score for text in beams.text_B.tolist()])
        open_B = logp_BK[:, 0] / max_tokens**options.length_penalty > best_B
        if options.beams == 1:  # greedy: the end token is taken like any other
            open_B &= token_BC[:, 0] != end
        if not open_B.any():
            break
        tokens_BKT = torch.cat([_of_beams(beams.tokens_BKT, beam_BK), token_BK.unsqueeze(2)], dim=2)
        row_BK = torch.arange(len(open_B), device=device).unsqueeze(1) * beams.logp_BK.shape[1] + beam_BK
        beams = _Beams(beams.text_B[open_B], tokens_BKT[open_B], logp_BK[open_B])
        logp_RV = writer.go_on(row_BK[open_B].flatten(), token_BK[open_B].flatten())
    return best


def _forbidden(
    beams: _Beams, logp_RV: Tensor, options: SearchOptions, only: int | None, never: Sequence[int]
) -> Tensor:
    """Which next tokens may not be: (R, V). `only`: the one that may."""
    forbidden_RV = torch.zeros_like(logp_RV, dtype=torch.bool)
    if only is not None:
        forbidden_RV[:] = True
        forbidden_RV[:, only] = False
        return forbidden_RV
    forbidden_RV[:, list(never)] = True
    size, tokens_RT = options.no_repeat, beams.tokens_BKT.flatten(0, 1)
    if size and tokens_RT.shape[1] >= size:
        parts_RPn = tokens_RT.unfold(1, size, 1)
        begun_Rn = tokens_RT[:, tokens_RT.shape[1] - size + 1 :]
        row, part = (parts_RPn[:, :, :-1] == begun_Rn.unsqueeze(1)).all(dim=2).nonzero(as_tuple=True)
        forbidden_RV[row, parts_RPn[row, part, -1]] = True
    return forbidden_RV


def _likeliest(beams: _Beams, logp_RV: Tensor, count: int) -> tuple[Tensor, Tensor, Tensor]:
    """Log probability, beam and token of each text's likeliest continuations, best first: (B, C) each."""
    texts, width = beams.logp_BK.shape
    logp_BKV = beams.logp_BK.unsqueeze(2) + logp_RV.unflatten(0, (texts, width))
    logp_BC, place_BC = logp_BKV.flatten(1).topk(min(count, width * logp_RV.shape[1]), dim=1)
    return logp_BC, place_BC // logp_RV.shape[1], place_BC % logp_RV.shape[1]


def _keep_ended(
    best: list[Written], beams: _Beams, score_BC: Tensor, beam_BC: Tensor, ended_BC: Tensor, width: int
) -> None:
    """Puts what ended, and comes before `width` others, in the place of worse results."""
    others_before_BC = (~ended_BC).cumsum(1)
    score_BC = score_BC.masked_fill(~ended_BC | (others_before_BC >= width), float("-inf"))
    score_B, which_B1 = score_BC.max(dim=1, keepdim=True)
    tokens_BT = _of_beams(beams.tokens_BKT, beam_BC.gather(1, which_B1)).squeeze(1)
    for text, score, tokens in zip(beams.text_B.tolist(), score_B.flatten().tolist(), tokens_BT.tolist(), strict=True):
        if score > best[text].score:
            best[text] = Written(tokens, score)


def _of_beams(tokens_BKT: Tensor, beam_BC: Tensor) -> Tensor:
    """The tokens of these beams: (B, C, T)."""
    return tokens_BKT.gather(1, beam_BC.unsqueeze(2).expand(-1, -1, tokens_BKT.shape[2]))
