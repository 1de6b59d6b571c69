"""Truth: torch's scaled_dot_product_attention in float64, with its gradient; in bf16, that of the same numbers."""

import pytest
import torch
import torch.nn.functional as F

from mm_mhmoe.nn import Segment, SelfAttention
from mm_mhmoe.nn.attention_pass import attention_pass

BATCH, LENGTH, HEADS, WIDTH = 3, 7, 2, 4


def inputs(dtype=torch.float64):
    torch.manual_seed(0)
    qkv = torch.randn(BATCH * LENGTH, 3 * HEADS * WIDTH, dtype=torch.float64).to(dtype).requires_grad_()
    return qkv, torch.randn(BATCH * LENGTH, HEADS * WIDTH, dtype=torch.float64).to(dtype)


def torchs(qkv, mask):
    query, key, value = qkv.view(BATCH, LENGTH, 3, HEADS, WIDTH).permute(2, 0, 3, 1, 4)
    mixed = F.scaled_dot_product_attention(query, key, value, attn_mask=mask)
    return mixed.transpose(1, 2).reshape(BATCH * LENGTH, -1)


def masks():
    keys = torch.arange(LENGTH) < torch.tensor([[7], [3], [5]])
    causal = torch.ones(LENGTH, LENGTH, dtype=torch.bool).tril()
    return {"none": None, "keys": keys[:, None, None, :], "keys and queries": keys[:, None, None, :] & causal}


@pytest.mark.parametrize("name", masks())
def test_output_and_gradient(name):
    (qkv, grad), mask = inputs(), masks()[name]
    ours, true = attention_pass(qkv, HEADS, BATCH, mask), torchs(qkv, mask)
    torch.testing.assert_close(ours, true)
    torch.testing.assert_close(*(torch.autograd.grad(y, qkv, grad)[0] for y in (ours, true)))


def test_bf16_is_float64_up_to_its_rounding():
    qkv, grad = inputs(torch.bfloat16)
    wide = qkv.detach().double().requires_grad_()
    mask = masks()["keys"]
    ours, true = attention_pass(qkv, HEADS, BATCH, mask), torchs(wide, mask)
    torch.testing.assert_close(ours.double(), true, rtol=0, atol=2e-2)
    (ours,), (true,) = torch.autograd.grad(ours, qkv, grad), torch.autograd.grad(true, wide, grad.double())
    torch.testing.assert_close(ours.double(), true, rtol=0, atol=5e-2)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_huge_scores_and_rows_of_padding_alone_stay_finite(dtype):
    qkv, grad = inputs(dtype)
    mask = torch.zeros(BATCH, 1, 1, LENGTH, dtype=torch.bool)
    mask[0] = True
    y = attention_pass(100 * qkv, HEADS, BATCH, mask)
    assert y.isfinite().all() and torch.autograd.grad(y, qkv, grad)[0].isfinite().all()


def test_long_rows_go_to_torchs_kernel_and_give_the_same():
    """Rows of 600 tokens, of which the first 500 are real, against those 500 alone."""
    torch.manual_seed(0)
    attention = SelfAttention(8, 2).double()
    x = torch.randn(600, 8, dtype=torch.float64)
    valid = torch.arange(600).unsqueeze(0) < 500
    long = attention(x, [Segment(1, 600, valid)])[:500]
    torch.testing.assert_close(long, attention(x[:500], [Segment(1, 500, None)]))
