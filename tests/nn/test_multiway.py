"""Truth: every token alone through its own modality's layer, in a loop; the definition of a pair's row."""

import pytest
import torch
from torch import nn

from mm_mhmoe.nn import (
    Experts,
    MoE,
    MultiHeadMoE,
    Multiway,
    MultiwayMoE,
    Segment,
    TopKRouter,
    by_modality,
    each_modality,
    load_balance_loss,
    ways,
)
from mm_mhmoe.nn.segments import join_modalities, split_modalities

DIM = 8
# Pictures of 3 tokens, pairs of 3 + 2, texts of 4.
IMAGES, PAIRS, TEXTS = Segment(2, 3, None, 3), Segment(2, 5, None, 3), Segment(3, 4, None)
MIXTURES = [[IMAGES], [TEXTS], [PAIRS], [IMAGES, TEXTS], [TEXTS, PAIRS, IMAGES], [PAIRS, PAIRS]]


def is_pair(segments) -> torch.Tensor:
    return torch.tensor([0 < s.image_length < s.length for s in segments for _ in range(s.batch * s.length)])


def is_text(segments) -> torch.Tensor:
    rows = [[n >= s.image_length for n in range(s.length)] for s in segments for _ in range(s.batch)]
    return torch.tensor([flag for row in rows for flag in row])


def tokens(segments, dim=DIM) -> torch.Tensor:
    torch.manual_seed(0)
    return torch.randn(len(is_text(segments)), dim, dtype=torch.float64)


@pytest.mark.parametrize("segments", MIXTURES)
def test_splitting_is_selecting_and_joining_its_inverse(segments) -> None:
    x_TD, text_T = tokens(segments), is_text(segments)
    image_TD, text_TD = split_modalities(x_TD, segments)
    assert torch.equal(image_TD, x_TD[~text_T]) and torch.equal(text_TD, x_TD[text_T])
    assert torch.equal(join_modalities(image_TD, text_TD, segments), x_TD)
    pair_T = is_pair(segments)
    apart = split_modalities(x_TD, segments, pairs_apart=True)
    for part_TD, of_T in zip(apart, (~text_T & ~pair_T, text_T & ~pair_T, pair_T), strict=True):
        assert torch.equal(part_TD, x_TD[of_T])
    assert torch.equal(join_modalities(apart[0], apart[1], segments, apart[2]), x_TD)


def test_streams_of_one_modality_are_slices() -> None:
    x_TD = tokens([IMAGES, TEXTS])
    image_TD, text_TD = split_modalities(x_TD, [IMAGES, TEXTS])
    assert image_TD.data_ptr() == x_TD.data_ptr() and text_TD.data_ptr() == x_TD[6:].data_ptr()


@pytest.mark.parametrize("segments", MIXTURES)
def test_each_token_goes_through_its_own_layer(segments) -> None:
    layer = each_modality(lambda: nn.Linear(DIM, 5), True).double()
    x_TD = tokens(segments).requires_grad_()
    wanted = torch.stack(
        [(layer.text if t else layer.image)(x_D) for x_D, t in zip(x_TD, is_text(segments), strict=True)]
    )
    y_TD = layer(x_TD, segments)
    torch.testing.assert_close(y_TD, wanted)
    pull = torch.randn_like(y_TD)
    grads = [torch.autograd.grad((y * pull).sum(), x_TD)[0] for y in (y_TD, wanted)]
    torch.testing.assert_close(*grads)


@pytest.mark.parametrize("segments", MIXTURES)
def test_tokens_of_pairs_have_a_layer_of_their_own(segments) -> None:
    layer = Multiway(*(nn.Linear(DIM, 5) for _ in range(3))).double()
    x_TD = tokens(segments)
    chosen = [
        layer.pair if pair else layer.text if text else layer.image
        for pair, text in zip(is_pair(segments), is_text(segments), strict=True)
    ]
    wanted = torch.stack([one(x_D) for x_D, one in zip(x_TD, chosen, strict=True)])
    torch.testing.assert_close(layer(x_TD, segments), wanted)
    assert ways(layer) == [layer.image, layer.text, layer.pair]


def test_a_layer_for_both_gets_all_tokens() -> None:
    layer = each_modality(lambda: nn.Linear(DIM, 5), False).double()
    x_TD = tokens([PAIRS])
    assert ways(layer) == [layer] and torch.equal(by_modality(layer, x_TD, [PAIRS]), layer(x_TD))
    both = Multiway(layer, layer)
    torch.testing.assert_close(by_modality(both, x_TD, [PAIRS]), layer(x_TD))
    assert ways(both) == [layer, layer]


def sparse(heads: int) -> nn.Module:
    width = DIM // heads
    moe = MoE(TopKRouter(width, 4, 2), Experts(4, width, 6))
    return moe if heads == 1 else MultiHeadMoE(DIM, heads, moe)


@pytest.mark.parametrize("heads", [1, 2])
@pytest.mark.parametrize("segments", MIXTURES)
@pytest.mark.parametrize("padded", [False, True])
@pytest.mark.parametrize("number", [2, 3])
def test_sparse_layers_have_pools_of_their_own(heads, segments, padded, number) -> None:
    """The routing of all tokens names the same experts as each pool's, and weighs them the same."""
    torch.manual_seed(1)
    layer = MultiwayMoE(*(sparse(heads) for _ in range(number))).double()
    x_TD, text_T = tokens(segments), is_text(segments)
    pair_T = is_pair(segments) & (number == 3)
    of = [~text_T & ~pair_T, text_T & ~pair_T, pair_T][:number]
    valid_T = (torch.arange(len(x_TD)) % 4 != 3) if padded else None
    y_TD, routing = layer(x_TD, segments, valid_T)
    pools = routing.pools
    assert routing.num_experts == 4 * number and len(routing.prob_SE) == heads * len(x_TD)
    alone = [
        (part(x_TD[of_T], None if valid_T is None else valid_T[of_T]), of_T, 4 * way)
        for way, (part, of_T) in enumerate(zip(ways(layer), of, strict=True))
        if of_T.any()
    ]
    assert len(pools) == len(alone)
    for ((part_TD, own), of_T, offset), pool in zip(alone, pools, strict=True):
        of_S = of_T.repeat_interleave(heads)
        torch.testing.assert_close(y_TD[of_T], part_TD)
        assert torch.equal(pool.experts_SK, own.experts_SK)
        torch.testing.assert_close(load_balance_loss(pool), load_balance_loss(own))
        assert torch.equal(routing.experts_SK[of_S], own.experts_SK + offset)
        torch.testing.assert_close(routing.weights_SK[of_S], own.weights_SK)
        torch.testing.assert_close(routing.prob_SE[of_S][:, offset : offset + 4], own.prob_SE)
        assert torch.equal(routing.target_SK[of_S] == 4 * number, own.target_SK == 4)
        others = [column for column in range(4 * number) if not offset <= column < offset + 4]
        assert not routing.prob_SE[of_S][:, others].any()
    if valid_T is not None:
        assert torch.equal(routing.valid_S, valid_T.repeat_interleave(heads))
