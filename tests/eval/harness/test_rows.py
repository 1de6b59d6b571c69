"""Truth: rows written out by hand, lm-eval's own example of windows, and texts as documents of training."""

from __future__ import annotations

import pytest
from mm_mhmoe_data.language.tokens import document_ids
from mm_mhmoe_eval.harness.rows import Row, pair_ids, pair_rows, rolling_rows, text_ids

BOS, EOS = 0, 2


@pytest.mark.parametrize(
    ("text", "ids"),
    [
        ("", [BOS]),
        ("\n", [BOS]),
        ("w5 w6", [BOS, 5, 6]),
        ("w5 w6  ", [BOS, 5, 6]),
        ("w5 w6\n", [BOS, 5, 6, EOS]),
        ("w5\n\n \nw6", [BOS, 5, EOS, 6]),
        ("\nw5\nw6 \n ", [BOS, 5, EOS, 6, EOS]),
    ],
)
def test_lines_end_with_the_end_token(words, text, ids):
    assert text_ids(words, text) == ids


def test_a_whole_document_is_what_training_makes_of_it(pieces):
    paragraphs = ("the package manager", "asks for a Name: 7", "über a version")
    assert text_ids(pieces, "".join(f"{p}\n" for p in paragraphs)) == document_ids(pieces.encode_all(paragraphs))


def test_pairs_are_cut_where_the_context_ends(words):
    assert pair_ids(words, "w5 w6", " w7") == ([BOS, 5, 6], [7])
    assert pair_ids(words, "", "w7 w8") == ([BOS], [7, 8])
    assert pair_ids(words, "w5", "\nw7\n") == ([BOS, 5], [EOS, 7, EOS])
    assert pair_ids(words, "w5\n", "w7\n") == ([BOS, 5, EOS], [7, EOS])
    assert pair_ids(words, "w5", " ") == ([BOS, 5], [])


def test_a_space_belongs_to_the_word_behind_it(pieces):
    """lm-eval's rule: a context's last space goes to the continuation. SentencePiece: the piece begins with it."""
    expected = pair_ids(pieces, "the package", " manager")
    assert pair_ids(pieces, "the package ", "manager") == expected
    assert pair_ids(pieces, "the package  ", "  manager ") == expected
    context, continuation = expected
    assert context == [BOS, *pieces.encode_all(["the package"])[0]]
    assert pieces.piece(continuation[0]).startswith("▁") and pieces.decode(continuation) == "manager"


def test_a_continuation_within_a_word_is_never_empty(pieces):
    """`package` is one piece, and so is `packages`: of both together no token would be left behind the context's."""
    (whole,), (begun,) = pieces.encode_all(["packages"]), pieces.encode_all(["package"])
    assert len(whole) == len(begun) == 1
    assert pair_ids(pieces, "package", "s") == ([BOS], whole)


def test_a_long_context_loses_its_beginning():
    context, continuation = list(range(10, 20)), [30, 31, 32]
    assert pair_rows(context, continuation, 20) == [Row([*context, *continuation], 3)]
    assert pair_rows(context, continuation, 6) == [Row([17, 18, 19, 30, 31, 32], 3)]
    assert pair_rows(context, continuation, 4) == [Row([19, 30, 31, 32], 3)]
    assert pair_rows(context, [], 4) == []


def test_a_continuation_that_is_too_long_is_judged_in_several_rows():
    assert pair_rows([8, 9], [1, 2, 3, 4, 5], 4) == [Row([9, 1, 2, 3], 3), Row([2, 3, 4, 5], 2)]


def test_the_example_of_lm_eval():
    """The docstring of lm_eval.api.model.LM.loglikelihood_rolling: ten tokens, four inputs at a time."""
    assert rolling_rows([BOS, *range(10, 20)], 5) == [
        Row([BOS, 10, 11, 12, 13], 4),
        Row([13, 14, 15, 16, 17], 4),
        Row([15, 16, 17, 18, 19], 2),
    ]


@pytest.mark.parametrize("count", [0, 1, 3, 4, 5, 8, 9, 23])
def test_every_token_is_judged_once(count):
    ids = [BOS, *range(10, 10 + count)]
    rows = rolling_rows(ids, 5)
    assert [index for row in rows for index in row.ids[len(row.ids) - row.judged :]] == ids[1:]
    assert all(len(row.ids) == min(5, len(ids)) for row in rows)


@pytest.mark.parametrize("length", [2, 3, 5, 16])
@pytest.mark.parametrize("count", [1, 2, 7, 15, 16, 40])
def test_windows_of_lm_eval_itself(count, length):
    utils = pytest.importorskip("lm_eval.utils", reason="the extra lm-eval is not installed")
    tokens = list(range(10, 10 + count))
    theirs = utils.get_rolling_token_windows(tokens, prefix_token=BOS, max_seq_len=length - 1, context_len=1)
    expected = [([*given, predicted[-1]], len(predicted)) for given, predicted in theirs]
    assert [(list(row.ids), row.judged) for row in rolling_rows([BOS, *tokens], length)] == expected
