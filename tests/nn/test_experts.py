"""Truth: the FFN written out in plain torch for each row, and numerical gradients."""

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from mm_mhmoe.nn import Experts

COUNTS = [[3, 0, 5, 1], [0, 0, 0, 0], [0, 9, 0, 0], [4, 4, 4, 4]]


def make(num_experts=4, dim=16, hidden=24, sub_ln=False, dtype=torch.float32):
    torch.manual_seed(0)
    experts = Experts(num_experts, dim, hidden, sub_ln=sub_ln).to(dtype)
    for parameter in experts.parameters():  # scales of one and biases of zero would hide a mix-up of experts
        torch.nn.init.normal_(parameter, std=0.5)
    return experts


def by_hand(experts, x, counts):
    rows, e_of_row = [], [e for e, count in enumerate(counts) for _ in range(count)]
    for row, e in zip(x, e_of_row, strict=True):
        h = F.gelu(row @ experts.w1_EdF[e] + experts.b1_EF[e])
        if experts.norm_scale_EF is not None:
            h = (h - h.mean()) / (h.var(unbiased=False) + experts.norm_eps).sqrt()
            h = h * experts.norm_scale_EF[e] + experts.norm_bias_EF[e]
        rows.append(h @ experts.w2_EFd[e] + experts.b2_Ed[e])
    return torch.stack(rows) if rows else x.new_zeros(x.shape)


def value_and_grads(run, experts, x):
    x = x.clone().requires_grad_()
    y = run(x)
    if not len(x):  # a sum over nothing: whether it hangs on the graph is left open
        return [y.detach(), x.detach(), *(torch.zeros_like(p) for p in experts.parameters())]
    weights = torch.linspace(-1, 1, y.numel(), dtype=torch.float64).view_as(y).to(y.dtype)
    inputs = [x, *experts.parameters()]
    grads = torch.autograd.grad((y * weights).sum(), inputs, allow_unused=True)
    return [y, *(torch.zeros_like(i) if g is None else g for i, g in zip(inputs, grads, strict=True))]


@pytest.mark.parametrize("sub_ln", [False, True])
@pytest.mark.parametrize("counts", COUNTS)
def test_equals_one_row_at_a_time(counts, sub_ln):
    experts = make(sub_ln=sub_ln, dtype=torch.float64)
    x = torch.randn(sum(counts), 16, dtype=torch.float64)
    ours = value_and_grads(lambda rows: experts(rows, counts), experts, x)
    true = value_and_grads(lambda rows: by_hand(experts, rows, counts), experts, x)
    for a, b in zip(ours, true, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-11)


@pytest.mark.parametrize("sub_ln", [False, True])
def test_gradients_are_the_numerical_ones(sub_ln):
    experts = make(3, 3, 4, sub_ln, torch.float64)
    x = torch.randn(5, 3, dtype=torch.float64, requires_grad=True)
    names = [name for name, _ in experts.named_parameters()]

    def run(x, *values):
        return torch.func.functional_call(experts, dict(zip(names, values, strict=True)), (x, [2, 0, 3]))

    assert torch.autograd.gradcheck(run, (x, *experts.parameters()))


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-4), (torch.bfloat16, 6e-2)])
@pytest.mark.parametrize("sub_ln", [False, True])
@pytest.mark.parametrize("counts", [COUNTS[0], COUNTS[2], COUNTS[3]])
def test_the_grouped_path_equals_the_loop(counts, sub_ln, dtype, tolerance):
    """Both are ours; the loop is held against the truth above. Errors are relative to the largest value."""
    experts = make(sub_ln=sub_ln).to(dtype)
    x = torch.randn(sum(counts), 16, dtype=dtype)
    loop = value_and_grads(lambda rows: experts.looped(rows, counts), experts, x)
    grouped = value_and_grads(lambda rows: experts.grouped(rows, counts), experts, x)
    for a, b in zip(grouped, loop, strict=True):
        assert a.dtype == b.dtype
        assert (a - b).abs().max() <= tolerance * (b.abs().max() + 1e-6)


@given(
    counts=st.lists(st.integers(0, 7), min_size=1, max_size=6),
    dim=st.integers(1, 5),
    hidden=st.integers(1, 5),
)
@settings(max_examples=25, deadline=None)
def test_any_shape(counts, dim, hidden):
    experts = make(len(counts), dim, hidden, dtype=torch.float64)
    x = torch.randn(sum(counts), dim, dtype=torch.float64)
    torch.testing.assert_close(experts(x, counts), by_hand(experts, x, counts), rtol=1e-9, atol=1e-10)


def test_an_expert_without_rows_gets_a_zero_gradient():
    experts = make()
    experts(torch.randn(4, 16), [4, 0, 0, 0]).square().sum().backward()
    assert experts.w1_EdF.grad[0].abs().sum() > 0
    assert not experts.w1_EdF.grad[1:].any()
    assert not experts.b2_Ed.grad[1:].any()


@pytest.mark.parametrize("sub_ln", [False, True])
def test_autocast_computes_in_bf16_and_keeps_fp32_gradients(sub_ln):
    experts = make(sub_ln=sub_ln)
    x = torch.randn(9, 16)
    with torch.autocast("cpu", torch.bfloat16):
        y = experts(x, [3, 0, 5, 1])
        nothing = experts(x[:0], [0, 0, 0, 0])
    y.float().square().sum().backward()
    true = experts(x, [3, 0, 5, 1])
    assert y.dtype == nothing.dtype == torch.bfloat16
    assert experts.w1_EdF.grad.dtype == torch.float32
    assert (y - true).abs().max() < 0.05 * true.abs().max()


@pytest.mark.parametrize("counts", [[1, 1], [1, 1, 1, 0], [5, 0, 0, 0, 0]])
def test_counts_that_do_not_fit_are_refused(counts):
    with pytest.raises(ValueError, match="4"):
        make()(torch.randn(4, 16), counts)


def test_in_bf16_on_cpus_products_have_few_sizes_and_the_same_results(monkeypatch):
    """A size that the CPU library has not met costs it a compilation; rows of zeros fill each expert's up."""
    torch.manual_seed(0)
    experts, counts = Experts(4, 16, 24, sub_ln=True), [3, 300, 0, 257]
    x = torch.randn(560, 16, requires_grad=True)
    sizes, linear = set(), torch.nn.functional.linear

    def spy(rows, *parts):
        sizes.add(len(rows))
        return linear(rows, *parts)

    monkeypatch.setattr(torch.nn.functional, "linear", spy)
    with torch.autocast("cpu", torch.bfloat16):
        y = experts(x, counts)
    assert sizes == {256, 512}
    pull = torch.randn_like(x)
    inputs = (x, *experts.parameters())
    filled = torch.autograd.grad((y.float() * pull).sum(), inputs)
    exact = experts(x, counts)  # fp32: not filled up
    assert sizes == {256, 512, 3, 300, 257}
    torch.testing.assert_close(y.float(), exact, rtol=0.05, atol=0.05)
    for ours, true in zip(filled, torch.autograd.grad((exact * pull).sum(), inputs), strict=True):
        assert (ours - true).norm() < 0.02 * true.norm()
