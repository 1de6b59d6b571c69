"""Truth: timm's BEiT index; the softmax of scores with the addends, written out query by query."""

import pytest
import torch
from timm.models.beit import gen_relative_position_index
from torch import nn

from mm_mhmoe.nn import RelativePositions, Segment, SelfAttention
from mm_mhmoe.nn.attention_pass import attention_pass
from mm_mhmoe.nn.relative_position import additive_mask, relative_index

GRID, HEADS, DIM = 2, 3, 12
PICTURE = 1 + GRID**2
PADDED = torch.arange(PICTURE + 3) < torch.tensor([[PICTURE + 3], [PICTURE + 1]])


def positions() -> RelativePositions:
    torch.manual_seed(0)
    made = RelativePositions(GRID, HEADS).double()
    nn.init.normal_(made.table_RH)
    return made


@pytest.mark.parametrize("grid", [1, 2, 5])
def test_the_index_is_beits(grid: int) -> None:
    assert torch.equal(relative_index(grid), gen_relative_position_index((grid, grid)))


@pytest.mark.parametrize(
    "segment",
    [
        Segment(2, PICTURE, None, PICTURE),
        Segment(2, PICTURE + 3, None, PICTURE),
        Segment(2, PICTURE + 3, PADDED, PICTURE),
        Segment(2, 4, None),
    ],
    ids=["pictures", "pairs", "padded pairs", "texts"],
)
def test_scores_get_the_addends_of_two_patches(segment: Segment) -> None:
    bias_HNN = positions()()
    attention = SelfAttention(DIM, HEADS, sub_ln=False).double()
    x_BLD = torch.randn(2, segment.length, DIM, dtype=torch.float64)
    found = attention(x_BLD.flatten(0, 1), [segment], bias_HNN).view(x_BLD.shape)
    for b in range(2):
        seen = range(segment.length) if segment.valid_BL is None else segment.valid_BL[b].nonzero().flatten().tolist()
        query, key, value = attention.qkv(x_BLD[b]).view(-1, 3, HEADS, DIM // HEADS).unbind(1)
        for i in seen:
            mixed = []
            for h in range(HEADS):
                both_pictures = [i < segment.image_length and j < segment.image_length for j in seen]
                scores = [
                    query[i, h] @ key[j, h] / (DIM // HEADS) ** 0.5 + (bias_HNN[h, i, j] if both else 0.0)
                    for j, both in zip(seen, both_pictures, strict=True)
                ]
                mixed.append(torch.stack(scores).softmax(0) @ value[list(seen), h])
            torch.testing.assert_close(found[b, i], attention.proj(torch.cat(mixed)))


def test_the_pass_on_cpus_adds_the_same_and_hands_on_its_gradient() -> None:
    """Against torch's kernel."""
    length, width = PICTURE + 3, 4
    qkv_TC = torch.randn(2 * length, 3 * HEADS * width, dtype=torch.float64)
    query, key, value = qkv_TC.view(2, length, 3, HEADS, width).permute(2, 0, 3, 1, 4)
    seen = PADDED[:, None, None, :]
    made = positions()

    def addends() -> torch.Tensor:
        return additive_mask(made(), seen, Segment(2, length, PADDED, PICTURE), torch.float64)

    fused = nn.functional.scaled_dot_product_attention(query, key, value, attn_mask=addends())
    found = (attention_pass(qkv_TC, HEADS, 2, addends()), fused.transpose(1, 2).reshape(2 * length, -1))
    torch.testing.assert_close(*found)
    torch.testing.assert_close(*(torch.autograd.grad(y.square().sum(), made.table_RH)[0] for y in found))


def test_the_table_learns_from_every_pair_of_patches() -> None:
    made = positions()
    made().sum().backward()
    counts = torch.bincount(relative_index(GRID).flatten())
    assert torch.equal(made.table_RH.grad, counts[:, None].expand(-1, HEADS).double())


def test_pictures_of_another_size_are_refused() -> None:
    with pytest.raises(ValueError, match=r"relative positions of 5 tokens for pictures of 10 tokens"):
        additive_mask(positions()(), None, Segment(2, 10, None, 10), torch.float64)
