"""Truth: the formula written out, with GELU from the error function."""

import pytest
import torch

from mm_mhmoe.nn import FeedForward


@pytest.mark.parametrize("sub_ln", [False, True])
def test_formula(sub_ln):
    torch.manual_seed(0)
    ffn = FeedForward(6, 10, sub_ln=sub_ln, norm_eps=1e-3).double()
    x = torch.randn(7, 6, dtype=torch.float64)
    h = x @ ffn.fc1.weight.t() + ffn.fc1.bias
    h = h * 0.5 * (1 + torch.erf(h / 2**0.5))
    if sub_ln:
        torch.nn.init.normal_(ffn.norm.weight)
        torch.nn.init.normal_(ffn.norm.bias)
        mean, var = h.mean(1, keepdim=True), h.var(1, keepdim=True, unbiased=False)
        h = (h - mean) / (var + 1e-3).sqrt() * ffn.norm.weight + ffn.norm.bias
    torch.testing.assert_close(ffn(x), h @ ffn.fc2.weight.t() + ffn.fc2.bias)


@pytest.mark.parametrize("bias", [False, True])
def test_swiglu_formula(bias):
    """arXiv 2002.05202, equation 6: (Swish(x W) * x V) W2."""
    torch.manual_seed(0)
    ffn = FeedForward(6, 10, activation="swiglu", bias=bias, sub_ln=False).double()
    x = torch.randn(7, 6, dtype=torch.float64)
    h = x @ ffn.fc1.weight.t() + (ffn.fc1.bias if bias else 0)
    h = h[:, :10] / (1 + torch.exp(-h[:, :10])) * h[:, 10:]
    torch.testing.assert_close(ffn(x), h @ ffn.fc2.weight.t() + (ffn.fc2.bias if bias else 0))


def test_autocast():
    ffn = FeedForward(8, 16)
    with torch.autocast("cpu", torch.bfloat16):
        y = ffn(torch.randn(5, 8))
    y.float().sum().backward()
    assert y.dtype == torch.bfloat16 and ffn.fc1.weight.grad.isfinite().all()
