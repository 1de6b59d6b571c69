"""Truth: the whole row encoded again for every token, and nucleus sampling counted out by hand."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import pytest
import torch

from mm_mhmoe.batch import Texts
from mm_mhmoe.config import language_preset
from mm_mhmoe.models.generation import _choose, generate
from mm_mhmoe.models.tasks import LanguageModel

SIZE = {"dim": 32, "depth": 2, "num_heads": 4, "ffn_dim": 64}
BEGINNINGS = ((0, 7, 9), (0, 11, 12, 13, 14), (0,))


def made(ffn="mh_moe", released=False):
    torch.manual_seed(0)
    config = language_preset("tiny", released=released, **SIZE)
    text = replace(config.text, vocab_size=40, max_length=16)
    # With large embeddings, a token's own row of the table would be the likeliest: it would repeat itself.
    model = LanguageModel(replace(config, ffn=ffn, scale_tokens=False, text=text)).eval()
    torch.nn.init.normal_(model.encoder.text.tokens.weight, std=0.1)
    return model


def padded(rows):
    longest = max(map(len, rows))
    ids = torch.tensor([[*row, *[1] * (longest - len(row))] for row in rows])
    return Texts(ids_BL=ids, valid_BL=torch.arange(longest) < torch.tensor([[len(row)] for row in rows]))


def whole_rows(model, beginning, most, choose):
    """Without a cache and without a batch."""
    row = list(beginning)
    while len(row) < len(beginning) + most and (len(row) == len(beginning) or row[-1] != model.text.eos_id):
        row.append(choose(model.head(model(padded([row]))[0][0, -1])))
    return row[len(beginning) :]


@pytest.mark.parametrize("released", [False, True], ids=["paper", "released"])
@pytest.mark.parametrize("ffn", ["dense", "moe", "mh_moe"])
def test_the_likeliest_tokens_are_those_of_whole_rows(ffn, released):
    model = made(ffn, released)
    found = generate(model, padded(BEGINNINGS), most=9)
    with torch.no_grad():
        wanted = [whole_rows(model, row, 9, lambda logits: int(logits.argmax())) for row in BEGINNINGS]
    assert found == wanted
    assert len({token for row in found for token in row}) > 3


def test_drawn_tokens_are_those_of_whole_rows():
    model, row = made(), BEGINNINGS[1]
    found = generate(model, padded([row]), most=10, top_p=0.8, generator=torch.Generator().manual_seed(5))
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():
        wanted = whole_rows(model, row, 10, lambda logits: int(_choose(logits[None], 0.8, 1.0, generator)))
    assert found == [wanted]


def test_rows_of_the_table_that_no_piece_has_are_not_written():
    options = {"most": 12, "top_p": 1.0, "generator": torch.Generator().manual_seed(0)}
    found = generate(made(), padded(BEGINNINGS * 5), pieces=10, **options)
    assert 5 < max(token for row in found for token in row) < 10


def test_a_row_ends_with_its_end_token():
    model = made()
    model.encoder.text.tokens.weight.data[model.text.eos_id] *= 5
    rows = generate(model, padded(BEGINNINGS * 20), most=12, top_p=1.0, generator=torch.Generator().manual_seed(0))
    ended = [row for row in rows if model.text.eos_id in row]
    assert ended and all(row.index(model.text.eos_id) == len(row) - 1 for row in ended)
    assert all(len(row) == 12 for row in rows if row not in ended)


def test_only_the_nucleus_is_drawn_in_proportion():
    """Probabilities .5, .3, .15, .05: .5 + .3 reach .75, so the nucleus is the first two, as .625 and .375."""
    logits = torch.tensor([[0.05, 0.5, 0.15, 0.3]]).log().expand(20_000, 4)
    drawn = Counter(_choose(logits, 0.75, 1.0, torch.Generator().manual_seed(0)).tolist())
    assert set(drawn) == {1, 3} and drawn[1] / 20_000 == pytest.approx(0.625, abs=0.02)
    assert set(_choose(logits, 0.5, 1.0, None).tolist()) == {1}
    cold = Counter(_choose(logits, 1.0, 0.5, torch.Generator().manual_seed(0)).tolist())
    assert cold[1] / 20_000 == pytest.approx(0.25 / 0.365, abs=0.02)


def test_learned_positions_end_a_text_and_rotary_ones_do_not():
    long = padded([tuple(range(3, 17))])
    assert len(generate(made(), long, most=9)[0]) <= 3
    model = made(released=True)
    assert len(generate(model, long, most=9)[0]) == 9 or model.text.eos_id in generate(model, long, most=9)[0]
    with pytest.raises(ValueError, match="17 tokens, but the model has 16 positions"):
        generate(made(), padded([tuple(range(3, 20))]), most=9)


@pytest.mark.parametrize("options", [{"top_p": 0.0}, {"top_p": 1.1}, {"top_p": 0.5, "temperature": 0.0}])
def test_options_out_of_range(options):
    with pytest.raises(ValueError, match=r"top_p=|temperature="):
        generate(made(), padded(BEGINNINGS), most=2, **options)
