"""Truth: streams never see each other, padding or what a mask hides; counts by the layers' definitions."""

from dataclasses import replace

import pytest
import torch

from mm_mhmoe.config import MoEConfig
from mm_mhmoe.models.builder import build_encoder
from mm_mhmoe.nn import Experts, FeedForward, MoE, MultiHeadMoE

KINDS = ["dense", "moe", "mh_moe"]


@pytest.fixture(params=KINDS)
def encoder(request, config):
    torch.manual_seed(0)
    return build_encoder(config(ffn=request.param)).double().eval()


def make(stream, kind, **options):
    return stream(kind, dtype=torch.float64, **options)


def test_three_streams_in_one_call_are_each_alone(encoder, stream) -> None:
    streams = [make(stream, kind, seed=n, masked=n == 1) for n, kind in enumerate(["images", "texts", "pairs"])]
    together = encoder(*streams)
    for alone, part in zip(streams, together.streams, strict=True):
        (single,) = encoder(alone).streams
        assert (single.image_BND is None) == (alone.images is None) == (part.image_BND is None)
        assert (single.text_BLD is None) == (alone.texts is None) == (part.text_BLD is None)
        if alone.images is not None:
            assert part.image_BND.shape == (3, 17, 32)
            torch.testing.assert_close(part.image_BND, single.image_BND, rtol=0, atol=1e-9)
        if alone.texts is not None:
            valid = alone.texts.valid_BL
            torch.testing.assert_close(part.text_BLD[valid], single.text_BLD[valid], rtol=0, atol=1e-9)


def test_flat_tokens_are_marked_in_the_order_of_the_streams(encoder, stream) -> None:
    texts = make(stream, "texts")
    output = encoder(make(stream, "images", rows=2), texts)
    assert output.is_text_T.tolist() == [False] * (2 * 17) + [True] * (3 * 8)
    assert output.valid_T.tolist() == [True] * (2 * 17) + texts.texts.valid_BL.flatten().tolist()


def test_padding_changes_nothing(encoder, stream) -> None:
    batch = make(stream, "pairs")
    ids = batch.texts.ids_BL.clone()
    ids[~batch.texts.valid_BL] = 33
    other = replace(batch, texts=replace(batch.texts, ids_BL=ids))
    ours, theirs = encoder(batch).streams[0], encoder(other).streams[0]
    torch.testing.assert_close(ours.image_BND, theirs.image_BND, rtol=0, atol=0)
    valid = batch.texts.valid_BL
    torch.testing.assert_close(ours.text_BLD[valid], theirs.text_BLD[valid], rtol=0, atol=0)


def test_a_padded_text_is_the_text_without_padding(encoder, stream) -> None:
    batch = make(stream, "texts")
    length = int(batch.texts.valid_BL[2].sum())
    assert length < 8
    cut = replace(
        batch.texts,
        ids_BL=batch.texts.ids_BL[2:, :length],
        valid_BL=batch.texts.valid_BL[2:, :length],
    )
    padded = encoder(batch).streams[0].text_BLD[2, :length]
    torch.testing.assert_close(encoder(replace(batch, texts=cut)).streams[0].text_BLD[0], padded, rtol=0, atol=1e-9)


def test_pixels_under_a_mask_do_not_leak(encoder, stream) -> None:
    batch = make(stream, "pairs", masked=True)
    hidden = batch.images.masked_BN
    assert 0 < hidden.sum() < hidden.numel()
    in_picture = hidden.view(3, 1, 4, 4).repeat_interleave(4, 2).repeat_interleave(4, 3)
    pixels = torch.where(in_picture, -batch.images.pixels_BCHW, batch.images.pixels_BCHW)
    same = encoder(replace(batch, images=replace(batch.images, pixels_BCHW=pixels))).streams[0]
    ours = encoder(batch).streams[0]
    assert torch.equal(ours.image_BND, same.image_BND) and torch.equal(ours.text_BLD, same.text_BLD)
    shown = encoder(replace(batch, images=replace(batch.images, pixels_BCHW=-batch.images.pixels_BCHW))).streams[0]
    assert not torch.allclose(ours.image_BND, shown.image_BND)


def test_tokens_under_a_mask_do_not_leak(encoder, stream) -> None:
    batch = make(stream, "pairs", masked=True)
    hidden = batch.texts.masked_BL
    assert hidden.any()
    ids = torch.where(hidden, 39 - batch.texts.ids_BL + 5, batch.texts.ids_BL)
    assert not torch.equal(ids, batch.texts.ids_BL)
    ours = encoder(batch).streams[0]
    theirs = encoder(replace(batch, texts=replace(batch.texts, ids_BL=ids))).streams[0]
    assert torch.equal(ours.image_BND, theirs.image_BND) and torch.equal(ours.text_BLD, theirs.text_BLD)


def test_picture_and_text_of_a_pair_see_each_other(encoder, stream) -> None:
    batch = make(stream, "pairs", padded=False)
    alone = encoder(replace(batch, texts=None)).streams[0].image_BND
    assert not torch.allclose(encoder(batch).streams[0].image_BND, alone)


def test_no_stream_is_an_error(encoder) -> None:
    with pytest.raises(ValueError, match="no stream"):
        encoder()


def test_dense_encoder_has_no_routing(config, stream) -> None:
    assert build_encoder(config(ffn="dense"))(stream()).routing == ()


@pytest.mark.parametrize("every", [1, 2, 3])
def test_every_nth_block_is_sparse_and_says_so(config, stream, every: int) -> None:
    encoder = build_encoder(config(depth=4, moe=MoEConfig(num_experts=4, every=every)))
    wanted = [layer for layer in range(4) if (layer + 1) % every == 0]
    assert [isinstance(block.ffn, MultiHeadMoE) for block in encoder.blocks] == [n in wanted for n in range(4)]
    assert [routing.layer for routing in encoder(stream()).routing] == wanted


def test_kinds_of_ffn(config) -> None:
    kinds = {ffn: type(build_encoder(config(ffn=ffn)).blocks[1].ffn) for ffn in KINDS}
    assert kinds == {"dense": FeedForward, "moe": MoE, "mh_moe": MultiHeadMoE}


def test_parameters_by_hand(config) -> None:
    """D=32, F=128, E=4, k=2, H=4, sub-LN. One expert of width w and hidden h: 2 w h + h + w and 2 h for its norm."""

    def ffn_parameters(ffn: str) -> int:
        return sum(p.numel() for p in build_encoder(config(ffn=ffn)).blocks[1].ffn.parameters())

    assert ffn_parameters("dense") == 2 * 32 * 128 + 128 + 32 + 2 * 128
    hidden = 64  # 128 / 2
    assert ffn_parameters("moe") == 4 * (2 * 32 * hidden + hidden + 32 + 2 * hidden) + 32 * 4
    hidden, width = 48, 8  # (128 - 32) / 2, 32 / 4
    experts = 4 * (2 * width * hidden + hidden + width + 2 * hidden)
    assert ffn_parameters("mh_moe") == experts + width * 4 + 2 * (32 * 32 + 32)


def test_without_sub_ln_there_are_no_inner_norms(config) -> None:
    with_norms, without = (build_encoder(config(sub_ln=flag)) for flag in (True, False))
    assert not any(m.norm_scale_EF is not None for m in without.modules() if isinstance(m, Experts))
    # per attention 2 D, dense FFN 2 F, experts 2 E h
    inner = 2 * 2 * 32 + 2 * 128 + 2 * 4 * 48
    count = [sum(p.numel() for p in e.parameters()) for e in (with_norms, without)]
    assert count[0] - count[1] == inner


def test_drop_path_grows_to_the_last_block(config) -> None:
    encoder = build_encoder(config(depth=5, drop_path=0.2))
    assert [block.drop_path.rate for block in encoder.blocks] == pytest.approx([0, 0.05, 0.1, 0.15, 0.2])
