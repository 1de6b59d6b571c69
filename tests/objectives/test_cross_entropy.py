"""Truth: F.cross_entropy over all logits of the same head, differentiated by autograd."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.func import functional_call

from mm_mhmoe.objectives import cross_entropy, masked
from mm_mhmoe.objectives.cross_entropy import fused_cross_entropy


@pytest.fixture(autouse=True)
def small_chunks(monkeypatch):
    """64 rows a chunk."""
    monkeypatch.setattr(cross_entropy, "_CHUNK_LOGITS", 1)


def made(rows, classes=37, *, bias=True, dtype=torch.float32):
    torch.manual_seed(0)
    head = nn.Linear(12, classes, bias=bias).to(dtype)
    return head, torch.randn(rows, 12, dtype=dtype, requires_grad=True), torch.randint(0, classes, (rows,))


def naive(states, targets, head):
    logits = head(states)
    return F.cross_entropy(logits.float() if logits.dtype != torch.float64 else logits, targets)


def gradients(loss, states, head):
    return torch.autograd.grad(loss, [states, *head.parameters()])


@pytest.mark.parametrize("rows", [1, 64, 65, 150])
@pytest.mark.parametrize("bias", [True, False])
def test_equals_the_plain_loss_and_its_gradients(rows, bias):
    head, states, targets = made(rows, bias=bias)
    loss, correct = fused_cross_entropy(states, targets, head)
    expected = naive(states, targets, head)
    torch.testing.assert_close(loss, expected, rtol=1e-6, atol=1e-6)
    assert correct.item() == (head(states).argmax(1) == targets).sum().item()
    found, wanted = gradients(3 * loss, states, head), gradients(3 * expected, states, head)
    torch.testing.assert_close(found, wanted, rtol=1e-5, atol=1e-6)


def test_double_precision_passes_the_numerical_derivative():
    head, states, targets = made(70, 5, dtype=torch.float64)

    def loss(states_MD, weight_VD, bias_V):
        return functional_call(_Loss(head, targets), {"head.weight": weight_VD, "head.bias": bias_V}, (states_MD,))

    torch.autograd.gradcheck(loss, (states, head.weight, head.bias))


class _Loss(nn.Module):
    """The loss as a module, whose weights torch can exchange."""

    def __init__(self, head, targets):
        super().__init__()
        self.head, self.targets = head, targets

    def forward(self, states_MD):
        return fused_cross_entropy(states_MD, self.targets, self.head)[0]


def test_filling_rows_have_no_gradient_and_no_say():
    head, states, targets = made(70)
    loss, _ = fused_cross_entropy(states, targets[:50], head)
    expected = naive(states[:50], targets[:50], head)
    torch.testing.assert_close(loss, expected)
    found, wanted = gradients(loss, states, head), gradients(expected, states, head)
    torch.testing.assert_close(found, wanted, rtol=1e-5, atol=1e-6)
    assert not found[0][50:].any()


@pytest.mark.parametrize(("dtype", "rtol"), [(torch.bfloat16, 2e-2), (torch.float16, 3e-3)])
def test_autocast(dtype, rtol):
    head, states, targets = made(150)
    with torch.autocast("cpu", dtype):
        loss, _ = fused_cross_entropy(states, targets, head)
        half = naive(states, targets, head)
    exact = naive(states, targets, head)
    torch.testing.assert_close(loss, half, rtol=1e-5, atol=1e-5)  # the same half-precision logits
    for one, other in zip(gradients(loss, states, head), gradients(exact, states, head), strict=True):
        assert one.dtype == torch.float32
        assert (one - other).norm() < rtol * other.norm()


def test_half_precision_keeps_gradients_that_a_scaler_would_come_too_late_for():
    """A right answer of probability 1 - 1e-5 among 300 rows: the gradient's 3e-8 is zero in fp16."""
    head, states, _ = made(300, 4)
    with torch.no_grad():
        head.weight.zero_()
        head.bias.copy_(torch.tensor([12.5, 0.0, 0.0, 0.0]))
    targets = torch.zeros(300, dtype=torch.int64)
    with torch.autocast("cpu", torch.float16):
        loss, _ = fused_cross_entropy(states, targets, head)
    found, wanted = gradients(loss * 2.0**16, states, head)[1], gradients(naive(states, targets, head), states, head)[1]
    assert wanted[1:].all()  # the right answer's own row is a difference from 1, which fp32 rounds
    torch.testing.assert_close(found[1:] / 2.0**16, wanted[1:], rtol=1e-2, atol=0)


def _saved(work):
    shapes = []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: shapes.append(tuple(t.shape)) or t, lambda t: t):
        work()
    return shapes


def test_no_logits_of_all_rows_are_kept():
    head, states, targets = made(150)
    assert (150, 37) in _saved(lambda: naive(states, targets, head))
    kept = _saved(lambda: fused_cross_entropy(states, targets, head)[0])
    assert kept and not any(37 in shape and shape not in {(37, 12), (37,)} for shape in kept)


def test_without_gradients_nothing_is_prepared(monkeypatch):
    head, states, targets = made(150)
    expected = naive(states, targets, head)
    monkeypatch.setattr(torch, "zeros_like", None)  # what the gradients' buffers are made with
    with torch.no_grad():
        loss, _ = fused_cross_entropy(states, targets, head)
    torch.testing.assert_close(loss, expected.detach())


@pytest.mark.parametrize("body", [False, True])
def test_masked_positions_take_the_fused_way_above_the_switch_only(monkeypatch, body):
    head, _, _ = made(1)
    if body:
        head = nn.Sequential(nn.Linear(12, 12), nn.GELU(), head)
    states, targets = torch.randn(3, 60, 12, requires_grad=True), torch.randint(0, 37, (3, 60))
    hidden = torch.rand(3, 60) < 0.5
    calls = []

    def counted(*arguments):
        calls.append(len(arguments[1]))
        return fused_cross_entropy(*arguments)

    monkeypatch.setattr(masked, "fused_cross_entropy", counted)
    found = []
    for switch in (int(hidden.sum()) * 37 + 1, int(hidden.sum()) * 37):
        monkeypatch.setattr(masked, "FUSED_FROM", switch)
        found.append(masked.masked_cross_entropy(states, hidden, targets, head))
    assert calls == [int(hidden.sum())]
    assert found[0].correct.item() == found[1].correct.item() and found[0].positions == found[1].positions
    torch.testing.assert_close(found[1].loss, found[0].loss)
    wanted, got = (gradients(part.loss, states, head) for part in found)
    torch.testing.assert_close(got, wanted, rtol=1e-5, atol=1e-6)
