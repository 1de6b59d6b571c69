"""Truth: one pass over the whole row without a cache, with causal_text; what a token sees in such a pass,
tests/nn/test_attention.py and tests/objectives/test_captioning.py hold."""

from dataclasses import replace
from itertools import pairwise

import pytest
import torch

from mm_mhmoe.batch import ImageTextBatch, Texts
from mm_mhmoe.config import MoEConfig
from mm_mhmoe.models.builder import build_encoder

SPARSE = MoEConfig(num_experts=4, top_k=2, heads=4, every=1)
KINDS = {
    "dense": {"ffn": "dense"},
    "moe": {"ffn": "moe", "moe": SPARSE},
    "mh_moe": {"ffn": "mh_moe", "moe": SPARSE},
    "sigmoid": {"ffn": "mh_moe", "moe": replace(SPARSE, router="sigmoid_bias")},
    "multiway": {"ffn": "mh_moe", "moe": SPARSE, "multiway": True},
    "multiway with pairs apart": {"ffn": "mh_moe", "moe": SPARSE, "multiway": True, "vl_layers": 1},
    "relative positions": {"ffn": "dense", "relative_positions": "layer", "image_positions": False},
}


@pytest.fixture(params=KINDS)
def encoder(request, config):
    torch.manual_seed(0)
    encoder = build_encoder(config(**KINDS[request.param])).double().eval()
    for block in encoder.blocks:
        if block.relative_positions is not None:  # they start at zero
            torch.nn.init.normal_(block.relative_positions.table_RH)
    return encoder


def part(texts, places):
    """Some places of the texts, as a stream to go on with."""
    return ImageTextBatch(
        texts=Texts(ids_BL=texts.ids_BL[:, places], valid_BL=texts.valid_BL[:, places]), causal_text=True
    )


def whole(encoder, rows):
    return encoder(replace(rows, causal_text=True)).streams[0].text_BLD


def beginning(rows, length):
    return replace(part(rows.texts, slice(0, length)), images=rows.images)


@pytest.mark.parametrize("kind", ["pairs", "texts"])
@pytest.mark.parametrize("cuts", [(1, 2, 3, 4, 5, 6, 7, 8), (3, 4, 8)], ids=["token by token", "in pieces"])
def test_equals_the_pass_without_a_cache(encoder, stream, kind, cuts):
    """Row r of the texts ends with r tokens of padding, so later pieces hold padding too."""
    rows = stream(kind, dtype=torch.float64)
    output, cache = encoder.decode(beginning(rows, cuts[0]))
    found = [output.streams[0].text_BLD]
    for start, stop in pairwise(cuts):
        output, cache = encoder.decode(part(rows.texts, slice(start, stop)), cache)
        found.append(output.streams[0].text_BLD)
    valid = rows.texts.valid_BL
    torch.testing.assert_close(torch.cat(found, dim=1)[valid], whole(encoder, rows)[valid], rtol=0, atol=1e-5)
    assert cache.texts_B.tolist() == valid.sum(1).tolist() and len(cache.layers) == 2


@pytest.mark.parametrize("kind", ["pairs", "texts"])
def test_rows_go_on_behind_their_padding(encoder, stream, kind):
    """Beginnings of 4, 3 and 2 tokens, padded to 4: each row's next tokens have the positions that follow its own."""
    rows = stream(kind, dtype=torch.float64, padded=False)
    lengths = [4, 3, 2]
    short = rows.texts.valid_BL[:, :4] & (torch.arange(4) < torch.tensor(lengths)[:, None])
    begun = ImageTextBatch(
        images=rows.images,
        texts=Texts(ids_BL=rows.texts.ids_BL[:, :4].masked_fill(~short, 1), valid_BL=short),
        causal_text=True,
    )
    _, cache = encoder.decode(begun)
    for step in range(4):
        ids = torch.stack([rows.texts.ids_BL[row, length + step] for row, length in enumerate(lengths)])[:, None]
        texts = Texts(ids_BL=ids, valid_BL=torch.ones(3, 1, dtype=torch.bool))
        output, cache = encoder.decode(ImageTextBatch(texts=texts, causal_text=True), cache)
        wanted = torch.stack([whole(encoder, rows)[row, length + step] for row, length in enumerate(lengths)])
        torch.testing.assert_close(output.streams[0].text_BLD[:, 0], wanted, rtol=0, atol=1e-5)


def test_chosen_rows_go_on_as_those_rows(encoder, stream):
    """As beams do: two go on from row 2, and one from row 0."""
    rows = stream("pairs", dtype=torch.float64, padded=False)
    _, cache = encoder.decode(beginning(rows, 5))
    chosen = torch.tensor([2, 0, 2])
    mixed = Texts(ids_BL=rows.texts.ids_BL[chosen], valid_BL=rows.texts.valid_BL[chosen])
    mixed.ids_BL[2, 5:] = rows.texts.ids_BL[1, 5:]
    images = replace(rows.images, pixels_BCHW=rows.images.pixels_BCHW[chosen])
    output, _ = encoder.decode(part(mixed, slice(5, 8)), cache.rows(chosen))
    wanted = whole(encoder, ImageTextBatch(images=images, texts=mixed))
    torch.testing.assert_close(output.streams[0].text_BLD, wanted[:, 5:], rtol=0, atol=1e-5)


def test_the_beams_of_a_picture_keep_it_once(config, stream):
    """Choosing rows copies nothing of what the first call encoded, in whatever order they are chosen again."""
    encoder = build_encoder(config()).eval()
    rows = stream("pairs", padded=False)
    _, cache = encoder.decode(beginning(rows, 2))
    beams = cache.rows(torch.tensor([0, 0, 0, 2, 2, 2]))
    texts = Texts(ids_BL=torch.full((6, 1), 7), valid_BL=torch.ones(6, 1, dtype=torch.bool))
    _, beams = encoder.decode(ImageTextBatch(texts=texts, causal_text=True), beams)
    beams = beams.rows(torch.tensor([2, 0, 1, 5, 5, 3])).without_last(0)
    for before, after in zip(cache.layers, beams.layers, strict=True):
        assert after._begin.key_BHPd.data_ptr() == before._begin.key_BHPd.data_ptr()
        assert after._begin.from_R.tolist() == [0, 0, 0, 2, 2, 2]


def test_mask_tokens_can_ask_and_be_taken_back(encoder, stream):
    """A mask token behind each beginning sees it, and leaves no trace in what is written afterwards."""
    rows = stream("pairs", dtype=torch.float64, padded=False)
    for length in (1, 4):
        asked = rows.texts.ids_BL[:, : length + 1].clone()
        asked[:, -1] = encoder.text.mask_id
        texts = Texts(ids_BL=asked, valid_BL=torch.ones_like(asked, dtype=torch.bool))
        output, cache = encoder.decode(ImageTextBatch(images=rows.images, texts=texts, causal_text=True))
        alone = whole(encoder, ImageTextBatch(images=rows.images, texts=texts))
        torch.testing.assert_close(output.streams[0].text_BLD, alone, rtol=0, atol=1e-5)
        output, _ = encoder.decode(part(rows.texts, slice(length, 8)), cache.without_last())
        torch.testing.assert_close(output.streams[0].text_BLD, whole(encoder, rows)[:, length:], rtol=0, atol=1e-5)


def test_a_cache_can_be_gone_on_from_twice(encoder, stream):
    rows = stream("pairs", dtype=torch.float64, padded=False)
    _, cache = encoder.decode(beginning(rows, 4))
    first, second = (encoder.decode(part(rows.texts, slice(4, 8)), cache)[0].streams[0].text_BLD for _ in range(2))
    assert torch.equal(first, second) and cache.length == 17 + 4


def test_what_does_not_go_together_is_refused(config, stream):
    encoder = build_encoder(config()).eval()
    rows = stream("pairs")
    with pytest.raises(ValueError, match="causal_text=True"):
        encoder.decode(rows)
    with pytest.raises(ValueError, match="give some"):
        encoder.decode(ImageTextBatch(images=rows.images, causal_text=True))
    _, cache = encoder.decode(beginning(rows, 6))
    with pytest.raises(ValueError, match="with pictures"):
        encoder.decode(beginning(rows, 2), cache)
    with pytest.raises(ValueError, match="2 rows cannot go on from a cache of 3"):
        encoder.decode(part(stream("texts", rows=2).texts, slice(6, 7)), cache)
    with pytest.raises(ValueError, match=r"texts of 9 tokens.*positions for 8"):
        encoder.decode(part(stream("texts", padded=False).texts, slice(0, 3)), cache)
    with pytest.raises(ValueError, match="7 tokens cannot be dropped"):
        cache.without_last(7)
