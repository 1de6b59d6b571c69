"""Truth: counting, the formula of XLM, and a run that was not interrupted."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from mm_mhmoe_data.datamodules import LanguageDataModule
from mm_mhmoe_data.language import language_shares
from mm_mhmoe_data.sampling import StepOrder
from mm_mhmoe_data.tokenizer import BOS, PAD, Tokenizer

from mm_mhmoe.batch import Texts
from mm_mhmoe.config import TextConfig

TEXT = TextConfig(vocab_size=400, max_length=8)


@pytest.fixture
def make(text_shards: Path, text_tokenizer: Tokenizer):
    def build(**changes: object) -> LanguageDataModule:
        options = {"batch_size": 4, "num_steps": 20, "seed": 0, **changes}
        module = LanguageDataModule(text_shards, text_tokenizer, TEXT, **options)
        module.setup("fit")
        return module

    return build


def same(one: Texts, other: Texts) -> bool:
    return all(torch.equal(getattr(one, n), getattr(other, n)) for n in ("ids_BL", "valid_BL", "document_BL"))


@pytest.mark.parametrize("exponent", [0.0, 0.3, 0.7, 1.0])
def test_shares_are_xlms(exponent: float) -> None:
    """Written out for three languages: q_i = p_i^a / sum_j p_j^a."""
    p = [0.7, 0.2, 0.1]
    wanted = [x**exponent / (0.7**exponent + 0.2**exponent + 0.1**exponent) for x in p]
    np.testing.assert_allclose(language_shares([70_000, 20_000, 10_000], exponent), wanted)


def test_languages_are_drawn_by_their_shares(make) -> None:
    module = make(exponent=0.5)
    tokens = [len(part.ids_N) for part in module.texts]
    wanted = np.array(tokens) ** 0.5 / (np.array(tokens) ** 0.5).sum()
    drawn = Counter(module.stream.packed.language(module.order(place).sample) for place in range(10_000))
    for number, share in enumerate(wanted):
        assert drawn[number] / 10_000 == pytest.approx(share, abs=2e-4)


def test_batches_have_the_form_that_models_take(make) -> None:
    module = make()
    for step in range(20):
        batch = module.make_batch(step)
        texts = batch.texts
        assert batch.causal_text and texts.ids_BL.shape == (4, 8) and texts.masked_BL is None
        assert (texts.ids_BL[~texts.valid_BL] == PAD).all() and texts.valid_BL[:, :2].all()
        begins = (texts.ids_BL == BOS)[:, 1:] & texts.valid_BL[:, 1:]
        assert torch.equal(texts.document_BL.diff(dim=1)[texts.valid_BL[:, 1:]] == 1, begins[texts.valid_BL[:, 1:]])
    assert make(documents_apart=False).make_batch(0).texts.document_BL is None


def test_a_resumed_run_goes_on_with_the_next_batch(make) -> None:
    whole = [batch.texts for batch in make().train_dataloader()]
    resumed = make(workers=1)
    resumed.load_state_dict({"batches": 13})
    rest = [batch.texts for batch in resumed.train_dataloader()]
    assert len(whole) == 20 and len(rest) == 7
    assert all(same(one, other) for one, other in zip(whole[13:], rest, strict=True))


def test_two_processes_share_what_one_would_take(make) -> None:
    alone, halves = make(batch_size=4), [make(batch_size=2) for _ in range(2)]
    for rank, half in enumerate(halves):
        half.picks = StepOrder(half.order, 4, rank=rank, world_size=2)
    for step in range(5):
        parts = [half.make_batch(step).keys for half in halves]
        assert [key for pair in zip(*parts, strict=True) for key in pair] == list(alone.make_batch(step).keys)


def test_held_out_texts_come_once_in_order_a_language_a_batch(make, text_shards: Path) -> None:
    module = make(val_shards=text_shards, documents_apart=True)
    batches = list(module.val_dataloader())
    assert all(len({key.split("/")[0] for key in batch.keys}) == 1 for batch in batches)
    targets = sum(int(batch.texts.valid_BL[:, 1:].sum()) for batch in batches)
    assert targets == sum(len(part.ids_N) - 1 for part in module.texts)
    assert make().val_dataloader() == []
