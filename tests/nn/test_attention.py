"""Truth: torch.nn.MultiheadAttention with the same weights, and a softmax written out row by row."""

import pytest
import torch
from torch import nn

from mm_mhmoe.nn import Segment, SelfAttention


def make(dim=12, heads=3, sub_ln=False):
    torch.manual_seed(0)
    return SelfAttention(dim, heads, sub_ln=sub_ln).double()


def linears(attention):
    """The fused projection and the output projection."""
    return [child for child in attention.children() if isinstance(child, nn.Linear)]


def padded(batch, length, seed=0):
    keep = torch.randint(1, length + 1, (batch, 1), generator=torch.Generator().manual_seed(seed))
    return torch.arange(length) < keep


@pytest.mark.parametrize("padding", [False, True])
def test_equals_torchs_multi_head_attention(padding):
    attention = make()
    qkv, out = linears(attention)
    true = nn.MultiheadAttention(12, 3, batch_first=True).double()
    true.in_proj_weight.data, true.in_proj_bias.data = qkv.weight.data, qkv.bias.data
    true.out_proj.weight.data, true.out_proj.bias.data = out.weight.data, out.bias.data
    x = torch.randn(4, 7, 12, dtype=torch.float64)
    valid = padded(4, 7) if padding else torch.ones(4, 7, dtype=torch.bool)
    y = attention(x.flatten(0, 1), [Segment(4, 7, valid if padding else None)]).view(4, 7, 12)
    want, _ = true(x, x, x, key_padding_mask=~valid, need_weights=False)
    torch.testing.assert_close(y[valid], want[valid])


def test_the_inner_layer_norm_stands_before_the_output_projection():
    attention = make(sub_ln=True)
    nn.init.normal_(attention.norm.weight)
    nn.init.normal_(attention.norm.bias)
    qkv, out = linears(attention)
    x = torch.randn(2, 5, 12, dtype=torch.float64)
    y = attention(x.flatten(0, 1), [Segment(2, 5, None)]).view(2, 5, 12)
    for b in range(2):
        q, k, v = (x[b] @ qkv.weight.t() + qkv.bias).chunk(3, dim=1)
        heads = []
        for h in range(3):
            part = slice(4 * h, 4 * h + 4)
            scores = q[:, part] @ k[:, part].t() / 4**0.5
            heads.append(scores.exp() / scores.exp().sum(1, keepdim=True) @ v[:, part])
        joint = torch.cat(heads, dim=1)
        mean, var = joint.mean(1, keepdim=True), joint.var(1, keepdim=True, unbiased=False)
        joint = (joint - mean) / (var + 1e-5).sqrt() * attention.norm.weight + attention.norm.bias
        torch.testing.assert_close(y[b], joint @ out.weight.t() + out.bias)


def test_streams_do_not_see_each_other():
    attention = make(sub_ln=True)
    a, b = torch.randn(6, 12, dtype=torch.float64), torch.randn(20, 12, dtype=torch.float64)
    segments = [Segment(2, 3, None), Segment(4, 5, padded(4, 5))]
    both = attention(torch.cat([a, b]), segments)
    changed = attention(torch.cat([a, -b]), segments)
    torch.testing.assert_close(both[:6], changed[:6], rtol=0, atol=1e-14)
    torch.testing.assert_close(both[:6], attention(a, segments[:1]))
    torch.testing.assert_close(both[6:], attention(b, segments[1:]))


def test_rows_do_not_see_each_other():
    attention = make()
    x = torch.randn(4, 5, 12, dtype=torch.float64)
    changed = x.clone()
    changed[2] += 1.0
    run = [attention(t.flatten(0, 1), [Segment(4, 5, None)]).view(4, 5, 12) for t in (x, changed)]
    same = (run[0] - run[1]).abs().amax(dim=(1, 2)) < 1e-13
    assert same.tolist() == [True, True, False, True]


def test_padding_keys_have_no_weight_even_when_huge():
    attention = make()
    valid = padded(4, 7)
    x = torch.randn(4, 7, 12, dtype=torch.float64)
    dirty = torch.where(valid[..., None], x, 1e6)
    run = [attention(t.flatten(0, 1), [Segment(4, 7, valid)]).view(4, 7, 12)[valid] for t in (x, dirty)]
    torch.testing.assert_close(*run)


@pytest.mark.parametrize("autocast", [False, True])
def test_rows_of_padding_alone_stay_finite(autocast):
    attention = make(sub_ln=True).float()
    valid = padded(3, 4)
    valid[1] = False
    x = torch.randn(12, 12, requires_grad=True)
    with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        y = attention(x, [Segment(3, 4, valid)])
    y.float().square().sum().backward()
    assert y.isfinite().all() and x.grad.isfinite().all()
    assert all(p.grad.isfinite().all() for p in attention.parameters())


def test_segments_that_do_not_add_up_are_refused():
    with pytest.raises(ValueError, match="11"):
        make()(torch.randn(11, 12, dtype=torch.float64), [Segment(2, 5, None)])


def test_a_width_that_heads_do_not_divide_is_refused():
    with pytest.raises(ValueError, match=r"dim=12.*num_heads=5"):
        SelfAttention(12, 5)


@pytest.mark.parametrize("kernel", ["fused", "three products"])
@pytest.mark.parametrize("padding", [False, True])
def test_causal_text_against_every_token_with_what_it_may_see_alone(monkeypatch, kernel, padding):
    """A token's output is the last row of plain attention over itself and what it sees; 3 picture tokens, 4 of text."""
    monkeypatch.setattr("mm_mhmoe.nn.attention._prefers_three_products", lambda *_: kernel == "three products")
    attention = make(sub_ln=True)
    x = torch.randn(2, 7, 12, dtype=torch.float64)
    valid = torch.ones(2, 7, dtype=torch.bool)
    valid[1, 5:] = not padding
    segment = Segment(2, 7, valid if padding else None, image_length=3, causal_text=True)
    y = attention(x.flatten(0, 1), [segment]).view(2, 7, 12)
    for row, place in valid.nonzero().tolist():
        seen = [0, 1, 2] if place < 3 else list(range(place + 1))
        alone = attention(x[row, seen], [Segment(1, len(seen), None)])
        torch.testing.assert_close(y[row, place], alone[seen.index(place)])
