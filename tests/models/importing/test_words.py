"""Truth: the rule of XLM-RoBERTa's tokenizer, written out: piece i from 3 on is i + 1, <mask> is pieces + 1."""

from pathlib import Path

import pytest
import sentencepiece as spm
import torch

from mm_mhmoe.models.importing import project_order, project_tokenizer, reorder_words

TEXTS = ["a red car by a tree", "the blue boat number 7", "Zebra!"]  # the last one has unknown letters


def xlmr_ids(model: spm.SentencePieceProcessor, text: str) -> list[int]:
    first = {0: 3, 1: 0, 2: 2}  # <unk>, <s>, </s> of SentencePiece
    return [first.get(i, i + 1) for i in model.encode(text)]


def test_the_rows_of_words_are_those_of_xlm_roberta(xlmr_words, tmp_path: Path) -> None:
    original = spm.SentencePieceProcessor(model_file=str(xlmr_words(30)))
    content, pieces = project_tokenizer(xlmr_words(30))
    ours = spm.SentencePieceProcessor(model_proto=content)
    assert pieces == len(original) == 30 and len(ours) == 32
    order_V = project_order(pieces, 35)
    assert sorted(order_V.tolist()) == list(range(35))
    for text in TEXTS:
        assert order_V[ours.encode(text)].tolist() == xlmr_ids(original, text)
        assert ours.decode(ours.encode(text)) == original.decode(original.encode(text))
    assert 3 in xlmr_ids(original, TEXTS[2])
    assert [ours.id_to_piece(i) for i in range(5)] == ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
    assert order_V[:5].tolist() == [0, 1, 2, 3, 31]
    assert (ours.bos_id(), ours.pad_id(), ours.eos_id(), ours.unk_id()) == (0, 1, 2, 3)


def test_words_and_their_head_move_together() -> None:
    order_V = project_order(6, 9)
    table = torch.arange(9.0)
    moved = reorder_words({"beit3.text_embed.weight": table[:, None], "mlm_head.bias": table, "x": table}, order_V)
    assert moved["mlm_head.bias"].tolist() == moved["beit3.text_embed.weight"][:, 0].tolist()
    assert moved["mlm_head.bias"].tolist() == [0, 1, 2, 3, 7, 4, 5, 6, 8]
    assert torch.equal(moved["x"], table)


def test_other_files_are_refused(xlmr_words, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"none.spm cannot be read"):
        project_tokenizer(tmp_path / "none.spm")
    (tmp_path / "x.spm").write_bytes(b"\xff\xfe no model")
    with pytest.raises(ValueError, match=r"x.spm is no SentencePiece model"):
        project_tokenizer(tmp_path / "x.spm")
    (tmp_path / "ours.spm").write_bytes(project_tokenizer(xlmr_words(30))[0])
    with pytest.raises(ValueError, match=r"begins with <s>, <pad>, </s> instead of <unk>, <s>, </s>"):
        project_tokenizer(tmp_path / "ours.spm")
    with pytest.raises(ValueError, match=r"40 pieces.*24 rows of words are too few"):
        project_order(40, 24)
