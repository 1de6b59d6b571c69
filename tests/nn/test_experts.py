"""Truth: the FFN written out in plain torch for each row, and numerical gradients."""

import weakref
from functools import partial

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode

from mm_mhmoe.nn import Experts, Rows

COUNTS = [[3, 0, 5, 1], [0, 0, 0, 0], [0, 9, 0, 0], [4, 4, 4, 4]]


KINDS = [
    {},
    {"sub_ln": True},
    {"keep": "tokens", "sub_ln": True},
    {"keep": "all", "sub_ln": True},
    {"keep": "all"},
    {"bias": False},
    {"activation": "swiglu"},
    {"activation": "swiglu", "bias": False, "sub_ln": True, "keep": "tokens"},
    {"activation": "swiglu", "keep": "all"},
]


def make(num_experts=4, dim=16, hidden=24, dtype=torch.float32, **kind):
    torch.manual_seed(0)
    experts = Experts(num_experts, dim, hidden, **kind).to(dtype)
    for parameter in experts.parameters():  # scales of one and biases of zero would hide a mix-up of experts
        torch.nn.init.normal_(parameter, std=0.5)
    return experts


def in_order(counts):
    """As many (sub-)tokens as rows, already sorted by expert."""
    places = torch.arange(sum(counts))
    return Rows(counts, places, places, places)


def by_hand(experts, x, counts):
    rows, e_of_row = [], [e for e, count in enumerate(counts) for _ in range(count)]
    for row, e in zip(x, e_of_row, strict=True):
        p = row @ experts.w1_EdF[e]
        p = p if experts.b1_EF is None else p + experts.b1_EF[e]
        if experts.activation == "gelu":
            h = 0.5 * p * (1 + torch.erf(p / 2**0.5))
        else:
            gate, up = p[: len(p) // 2], p[len(p) // 2 :]
            h = gate * torch.sigmoid(gate) * up
        if experts.norm_scale_EF is not None:
            h = (h - h.mean()) / (h.var(unbiased=False) + experts.norm_eps).sqrt()
            h = h * experts.norm_scale_EF[e] + experts.norm_bias_EF[e]
        y = h @ experts.w2_EFd[e]
        rows.append(y if experts.b2_Ed is None else y + experts.b2_Ed[e])
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


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("counts", COUNTS)
def test_equals_one_row_at_a_time(counts, kind):
    experts = make(dtype=torch.float64, **kind)
    x = torch.randn(sum(counts), 16, dtype=torch.float64)
    ours = value_and_grads(lambda rows: experts(rows, in_order(counts)), experts, x)
    true = value_and_grads(lambda rows: by_hand(experts, rows, counts), experts, x)
    for a, b in zip(ours, true, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-11)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    "frozen",
    [
        ("w1_EdF", "b1_EF"),
        ("w2_EFd", "b2_Ed"),
        ("norm_scale_EF", "norm_bias_EF"),
        ("w1_EdF", "b1_EF", "w2_EFd", "b2_Ed", "norm_scale_EF", "norm_bias_EF"),
        ("w1_EdF", "norm_scale_EF"),
        ("x",),
    ],
    ids="+".join,
)
def test_what_is_frozen_costs_no_product(kind, frozen):
    """The other gradients stay the same, bit by bit, and torch's counter finds fewer FLOPs: two for each row, input and
    output of a product that is left out. The bias of the first product is a row of its matrix, so both must be frozen.
    """
    counts = [3, 0, 5, 1]

    def backward(without):
        experts, x = make(**kind), torch.linspace(-2, 2, 9 * 16).view(9, 16).requires_grad_("x" not in without)
        for name, parameter in experts.named_parameters():
            parameter.requires_grad_(name not in without)
        y, counter = experts(x, in_order(counts)), FlopCounterMode(display=False)
        with counter:
            y.square().sum().backward()
        named = {"x": x, **dict(experts.named_parameters())}
        return {name: value.grad for name, value in named.items()}, counter.get_total_flops()

    every, all_flops = backward(())
    some, flops = backward(frozen)
    for name, grad in every.items():
        assert grad.any()
        assert some[name] is None if name in frozen else torch.equal(some[name], grad)
    columns = 48 if kind.get("activation") == "swiglu" else 24
    inputs = 17 if kind.get("bias", True) else 16
    products = {("w1_EdF", "b1_EF"): inputs * columns, ("w2_EFd",): 24 * 16, ("x",): 16 * columns}
    left_out = [size for of, size in products.items() if {*of} & {*every} <= {*frozen}]
    assert all_flops - flops == 2 * 9 * sum(left_out)


@pytest.mark.parametrize("kind", KINDS)
def test_gradients_are_the_numerical_ones(kind):
    experts = make(3, 3, 4, torch.float64, **kind)
    x = torch.randn(5, 3, dtype=torch.float64, requires_grad=True)
    names = [name for name, _ in experts.named_parameters()]

    def run(x, *values):
        return torch.func.functional_call(experts, dict(zip(names, values, strict=True)), (x, in_order([2, 0, 3])))

    assert torch.autograd.gradcheck(run, (x, *experts.parameters()))


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-4), (torch.bfloat16, 6e-2)])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("counts", [COUNTS[0], COUNTS[2], COUNTS[3]])
def test_the_grouped_path_equals_the_loop(counts, kind, dtype, tolerance):
    """Both are ours; the loop is held against the truth above. Errors are relative to the largest value."""
    experts = make(**kind).to(dtype)
    x = torch.randn(sum(counts), 16, dtype=dtype)
    loop = value_and_grads(lambda rows: experts.looped(rows, in_order(counts)), experts, x)
    grouped = value_and_grads(lambda rows: experts.grouped(rows, in_order(counts)), experts, x)
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
    torch.testing.assert_close(experts(x, in_order(counts)), by_hand(experts, x, counts), rtol=1e-9, atol=1e-10)


def test_an_expert_without_rows_gets_a_zero_gradient():
    experts = make()
    experts(torch.randn(4, 16), in_order([4, 0, 0, 0])).square().sum().backward()
    assert experts.w1_EdF.grad[0].abs().sum() > 0
    assert not experts.w1_EdF.grad[1:].any()
    assert not experts.b2_Ed.grad[1:].any()


@pytest.mark.parametrize("sub_ln", [False, True])
def test_autocast_computes_in_bf16_and_keeps_fp32_gradients(sub_ln):
    experts = make(sub_ln=sub_ln)
    x = torch.randn(9, 16)
    with torch.autocast("cpu", torch.bfloat16):
        y = experts(x, in_order([3, 0, 5, 1]))
        nothing = experts(x[:0], in_order([0, 0, 0, 0]))
    y.float().square().sum().backward()
    true = experts(x, in_order([3, 0, 5, 1]))
    assert y.dtype == nothing.dtype == torch.bfloat16
    assert experts.w1_EdF.grad.dtype == torch.float32
    assert (y - true).abs().max() < 0.05 * true.abs().max()


def test_rows_for_another_number_of_experts_are_refused():
    with pytest.raises(ValueError, match="3 experts were given to 4"):
        make()(torch.randn(4, 16), in_order([1, 1, 2]))


def test_an_unknown_activation_is_refused():
    with pytest.raises(ValueError, match=r"relu.*gelu, swiglu"):
        Experts(2, 4, 4, activation="relu")


def saved(run, parameters):
    """Bytes of what autograd saves in run(), parameters left out, and what it returns."""
    own = {p.untyped_storage().data_ptr() for p in parameters}
    stores = {}

    def note(t):
        stores[t.untyped_storage().data_ptr()] = t
        return t

    with torch.autograd.graph.saved_tensors_hooks(note, lambda t: t):
        y = run()
    return sum(t.untyped_storage().nbytes() for place, t in stores.items() if place not in own), y


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("sub_ln", [False, True])
@pytest.mark.parametrize(("activation", "columns"), [("gelu", 32), ("swiglu", 64)])
def test_what_is_kept_for_the_backward_pass(activation, columns, sub_ln, dtype):
    """Numbers a row, counted by hand. Two experts of 256 rows, which in bf16 nothing fills up."""

    def kept(keep):
        experts = make(2, 16, 32, dtype, activation=activation, sub_ln=sub_ln, keep=keep)
        x = torch.randn(512, 16, dtype=dtype, requires_grad=True)
        row_numbers = 512 * 8  # in_order has them once
        return saved(lambda: experts(x, in_order([256, 256])), experts.parameters())[0] - row_numbers

    size = torch.finfo(dtype).bits // 8
    assert kept("tokens") == 512 * 16 * size
    assert kept("hidden") == 512 * (16 + columns) * size
    room = 255 if dtype == torch.bfloat16 else 0  # where the last expert's rows would be filled up
    normed = 512 * (32 * size + 2 * size) if sub_ln else 0  # the LayerNorm's output, mean and deviation
    assert kept("all") == (512 + room) * 17 * size + 512 * (columns + 32) * size + normed


class CountGroupedProducts(TorchDispatchMode):
    number = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        self.number += function is torch.ops.aten._grouped_mm.default
        return function(*args, **(kwargs or {}))


@pytest.mark.parametrize("sub_ln", [False, True])
@pytest.mark.parametrize("activation", ["gelu", "swiglu"])
def test_the_grouped_path_computes_again_no_more_than_said(activation, sub_ln):
    """Backward has four products, two gradients of two; hidden adds none to them, tokens the first one."""
    kept, products = {}, {}
    for keep in ("all", "hidden", "tokens"):
        experts = make(2, 16, 32, activation=activation, sub_ln=sub_ln, keep=keep)
        x = torch.randn(64, 16, requires_grad=True)
        kept[keep], y = saved(partial(experts.grouped, x, in_order([40, 24])), experts.parameters())
        with CountGroupedProducts() as counter:
            y.square().sum().backward()
        products[keep] = counter.number
    assert kept["tokens"] < kept["hidden"] < kept["all"]
    assert products == {"all": 4, "hidden": 4, "tokens": 5}


def test_inference_does_not_hold_what_training_must(monkeypatch):
    experts, x = make(8, 16, 32), torch.randn(64, 16)
    alive, most, mm = [], [], torch.mm

    def spy(*parts, **out):
        product = mm(*parts, **out)
        alive.append(weakref.ref(product))
        most.append(sum(ref() is not None for ref in alive))
        return product

    monkeypatch.setattr(torch, "mm", spy)
    with torch.no_grad():
        first = experts(x, in_order([8] * 8))
    assert max(most) <= 3  # of one expert, and what the loop has not let go yet
    most.clear()
    torch.testing.assert_close(experts(x, in_order([8] * 8)), first)
    assert max(most) >= 8


def test_in_bf16_on_cpus_products_have_few_sizes_and_the_same_results(monkeypatch):
    """A size that the CPU library has not met costs it a compilation; each expert's rows are filled up."""
    torch.manual_seed(0)
    experts, counts = Experts(4, 16, 24, sub_ln=True), [3, 300, 0, 257]
    x = torch.randn(560, 16, requires_grad=True)
    sizes, mm = set(), torch.mm

    def spy(rows, weight, **out):
        sizes.add(len(rows))
        return mm(rows, weight, **out)

    monkeypatch.setattr(torch, "mm", spy)
    with torch.autocast("cpu", torch.bfloat16):
        y = experts(x, in_order(counts))
    assert sizes == {256, 512}
    pull = torch.randn_like(x)
    inputs = (x, *experts.parameters())
    filled = torch.autograd.grad((y.float() * pull).sum(), inputs)
    assert sizes == {256, 512}
    sizes.clear()
    exact = experts(x, in_order(counts))  # fp32: not filled up
    assert sizes == {3, 300, 257}
    torch.testing.assert_close(y.float(), exact, rtol=0.05, atol=0.05)
    for ours, true in zip(filled, torch.autograd.grad((exact * pull).sum(), inputs), strict=True):
        assert (ours - true).norm() < 0.02 * true.norm()
