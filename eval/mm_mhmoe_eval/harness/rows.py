"""Texts of lm-eval as rows of tokens, of which the last ones are judged.

A text becomes tokens as documents do in training: the begin token, its lines, and the end token where a line ends.
Empty lines say nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from mm_mhmoe_data.language.tokens import document_ids


class Row(NamedTuple):
    """Tokens that go through the model at once. The last `judged` of them count."""

    ids: Sequence[int]
    judged: int


def text_ids(tokenizer: Any, text: str) -> list[int]:
    """The tokens of a text from its beginning; where its last line may still go on, without the end token."""
    ids = document_ids(tokenizer.encode_all([line for line in text.splitlines() if line.strip()]))
    tail = text[len(text.rstrip()) :]
    line_has_ended = tail.splitlines() not in ([], [tail])
    return ids if line_has_ended or len(ids) == 1 else ids[:-1]


def pair_ids(tokenizer: Any, context: str, continuation: str) -> tuple[list[int], list[int]]:
    """Context and continuation, encoded as one text and cut where the context alone would end, as lm-eval does.

    lm-eval moves spaces at the end of a context to the continuation, so that its first word is cut as words are;
    SentencePiece gives such spaces to the next word anyway. A line end stays: it is a token of its own.
    """
    before, whole = text_ids(tokenizer, context), text_ids(tokenizer, context + continuation)
    cut = len(before)
    if len(whole) <= cut and whole != before:  # the continuation's letters went into the context's last piece
        cut = len(whole) - 1
    return whole[:cut], whole[cut:]


def pair_rows(context: Sequence[int], continuation: Sequence[int], length: int) -> list[Row]:
    """One row, whose context has lost its beginning where the model's length asks for it; several for a continuation
    that is too long itself."""
    if len(continuation) < length:
        return [Row([*context, *continuation][-length:], len(continuation))] if continuation else []
    return rolling_rows([context[-1], *continuation], length)


def rolling_rows(ids: Sequence[int], length: int) -> list[Row]:
    """All tokens but the first judged once, in rows of at most that length; the last row reaches back to be as long as
    the others. As `get_rolling_token_windows` of lm-eval with one token of context at least, whose max_seq_len is one
    less: it does not count a row's last token, behind which nothing is predicted."""
    rows, done = [], 1
    while done < len(ids):
        end = min(done + length - 1, len(ids))
        rows.append(Row(ids[max(0, end - length) : end], end - done))
        done = end
    return rows
