"""Truth: sums over single rows, and strings cut by hand. tests/parity/test_decoders.py holds lm-eval's own answers."""

from __future__ import annotations

import pytest
import torch
from mm_mhmoe_eval.harness.answers import MOST_TOKENS, Wanted, cut_at, log_likelihoods, wanted, write
from mm_mhmoe_eval.harness.rows import Row

from mm_mhmoe.batch import Texts
from mm_mhmoe.config import TextConfig, language_preset
from mm_mhmoe.models.tasks import LanguageModel

LENGTH = 16


@pytest.fixture
def model() -> LanguageModel:
    torch.manual_seed(0)
    text = TextConfig(vocab_size=40, max_length=LENGTH)
    return LanguageModel(language_preset("tiny", dim=16, ffn_dim=32, depth=2, num_heads=2, text=text)).eval()


def test_rows_of_a_request_are_summed_and_only_what_is_judged(model):
    rows = [[Row([0, 5, 6, 7], 2)], [], [Row([0, 8, 9], 2), Row([0, 5, 6, 7, 8, 9], 1)]]
    found = log_likelihoods(model, rows, batch_size=2, device="cpu")

    def alone(row: Row) -> float:
        ids = torch.tensor([row.ids])
        states, _ = model(Texts(ids_BL=ids, valid_BL=torch.ones_like(ids, dtype=torch.bool)))
        chosen = model.head(states).log_softmax(-1)[0, :-1].gather(1, ids[0, 1:, None])[:, 0]
        return chosen[len(row.ids) - 1 - row.judged :].sum().item()

    sums = [sum(map(alone, its_rows)) for its_rows in rows]
    assert [nats for nats, _ in found] == pytest.approx(sums, abs=1e-4)
    assert found[1] == (0.0, True)


def test_a_likeliest_continuation_is_known_as_one(model):
    ids = torch.tensor([[0, 5, 6]])
    states, _ = model(Texts(ids_BL=ids, valid_BL=torch.ones_like(ids, dtype=torch.bool)))
    first, second = (int(index) for index in model.head(states[0, -1]).topk(2).indices)
    rows = [[Row([0, 5, 6, index], 1)] for index in (first, second)]
    assert [likeliest for _, likeliest in log_likelihoods(model, rows, batch_size=2, device="cpu")] == [True, False]


def test_settings_of_generation():
    assert wanted() == Wanted((), MOST_TOKENS, None, 1.0)
    assert wanted(until="\n", max_gen_toks=8, temperature=0.0) == Wanted(("\n",), 8, None, 1.0)
    assert wanted(until=["a", "b"], do_sample=True, temperature=0.7) == Wanted(("a", "b"), MOST_TOKENS, 1.0, 0.7)
    with pytest.raises(ValueError, match="num_beams of the task is not known here; known are until"):
        wanted(num_beams=4)


def test_texts_end_before_the_first_stop():
    assert cut_at("one. two; three", [";", "."]) == "one"
    assert cut_at("one", ["", "x"]) == "one"


def test_no_more_than_half_of_the_model_is_written(model, words):
    contexts = ["w5", "w6 " * 30]
    with pytest.warns(UserWarning, match=r"max_gen_toks=256 is more than half of the model's 16 tokens; 8 are written"):
        found = dict(write(model, words, contexts, wanted(), batch_size=2, device="cpu"))
    assert sorted(found) == [0, 1] and all(len(text.split()) <= LENGTH // 2 for text in found.values())
