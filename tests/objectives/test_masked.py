"""Truth: cross-entropy over the logits of the whole sequence, gathered at the masked positions."""

from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F

from mm_mhmoe.batch import PretrainBatch
from mm_mhmoe.models.tasks import PretrainModel
from mm_mhmoe.objectives.masked import masked_cross_entropy, masked_losses
from mm_mhmoe.objectives.picture_targets import CodeTarget


@pytest.mark.parametrize("count", [1, 63, 64, 65, 90])
def test_equals_the_loss_over_full_logits(count: int) -> None:
    torch.manual_seed(0)
    states = torch.randn(9, 10, 6, dtype=torch.float64, requires_grad=True)
    head = torch.nn.Linear(6, 11).double()
    targets = torch.randint(0, 11, (9, 10))
    masked = (torch.randperm(90) < count).view(9, 10)
    found = masked_cross_entropy(states, masked, targets, head)
    (gradient,) = torch.autograd.grad(found.loss, states)

    logits = head(states)
    expected = F.cross_entropy(logits.flatten(0, 1), targets.flatten(), reduction="none").view(9, 10)[masked].mean()
    (expected_gradient,) = torch.autograd.grad(expected, states)
    torch.testing.assert_close(found.loss.double(), expected, rtol=1e-5, atol=1e-6)  # the loss is fp32
    torch.testing.assert_close(gradient, expected_gradient, rtol=1e-4, atol=1e-7)
    assert found.positions == count
    assert found.correct.item() == ((logits.argmax(-1) == targets) & masked).sum().item()


def test_the_head_sees_masked_positions_only() -> None:
    rows = []

    def head(states: torch.Tensor) -> torch.Tensor:
        rows.append(len(states))
        return states

    masked = torch.zeros(4, 100, dtype=torch.bool)
    masked[0, :70] = True
    masked_cross_entropy(torch.randn(4, 100, 8), masked, torch.zeros(4, 100, dtype=torch.int64), head)
    assert rows == [128]  # 70, filled up to a multiple of 64; the sequence has 400


def test_nothing_masked_is_a_loss_of_zero_with_gradients_of_zero() -> None:
    head = torch.nn.Linear(6, 11)
    states = torch.randn(2, 5, 6, requires_grad=True)
    nothing = torch.zeros(2, 5, dtype=torch.bool)
    found = masked_cross_entropy(states, nothing, torch.zeros(2, 5, dtype=torch.int64), head)
    assert found.loss.item() == 0.0 and found.positions == 0 and found.correct.item() == 0
    found.loss.backward()
    assert head.weight.grad is not None and not head.weight.grad.any()


@pytest.fixture
def model(config) -> PretrainModel:
    torch.manual_seed(0)
    return PretrainModel(config(), 8).eval()


def codes_of(pixels: torch.Tensor) -> torch.Tensor:
    return (pixels.sum(dim=1)[:, ::4, ::4].flatten(1) * 1000).long() % 8


TARGET = CodeTarget(SimpleNamespace(codes=codes_of))


def test_three_streams_against_each_stream_alone(model, stream) -> None:
    batch = PretrainBatch(
        images=stream("images", masked=True, seed=1),
        texts=stream("texts", masked=True, seed=2),
        pairs=stream("pairs", masked=True, seed=3),
    )
    losses, output = masked_losses(model, TARGET, batch)
    assert list(losses) == ["images", "texts", "pairs_image", "pairs_text"]
    assert len(output.streams) == 3
    for name in ("images", "texts", "pairs"):
        part = getattr(batch, name)
        states = model.encoder(part).streams[0]
        if part.images is not None:
            logits = model.image_head(states.image_BND[:, 1:])[part.images.masked_BN]
            expected = F.cross_entropy(logits, codes_of(part.images.pixels_BCHW)[part.images.masked_BN])
            torch.testing.assert_close(losses["pairs_image" if name == "pairs" else name].loss, expected)
        if part.texts is not None:
            logits = model.text_head(states.text_BLD)[part.texts.masked_BL]
            expected = F.cross_entropy(logits, part.texts.ids_BL[part.texts.masked_BL])
            torch.testing.assert_close(losses["pairs_text" if name == "pairs" else name].loss, expected)


def test_absent_streams_have_no_loss(model, stream) -> None:
    losses, _ = masked_losses(model, TARGET, PretrainBatch(texts=stream("texts", masked=True)))
    assert list(losses) == ["texts"]


def test_streams_without_masks_are_refused(model, stream) -> None:
    with pytest.raises(ValueError, match="picture stream without patch masks"):
        masked_losses(model, TARGET, PretrainBatch(images=stream("images")))
    pairs = stream("pairs", masked=True)
    pairs = replace(pairs, texts=replace(pairs.texts, masked_BL=None))
    with pytest.raises(ValueError, match="text stream without token masks"):
        masked_losses(model, TARGET, PretrainBatch(pairs=pairs))
