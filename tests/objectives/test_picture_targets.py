"""Truth: loops over hidden patches that follow the papers' formulas, in float64. Pictures and weights are random."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from mm_mhmoe.batch import Images, PretrainBatch
from mm_mhmoe.config import VisionConfig
from mm_mhmoe.models.tasks import PretrainModel
from mm_mhmoe.models.teachers import HOGTeacher, build_teacher
from mm_mhmoe.objectives.masked import masked_losses
from mm_mhmoe.objectives.picture_targets import CodeTarget, FeatureTarget, PixelTarget

VISION = VisionConfig(image_size=16, patch_size=4)
CODES = SimpleNamespace(codes=lambda pixels: (pixels.sum(dim=1)[:, ::4, ::4].flatten(1) * 1000).long().abs() % 8)


def made(name: str):
    if name == "codes":
        return CodeTarget(CODES)
    return PixelTarget(4) if name == "pixels" else FeatureTarget(HOGTeacher(4), loss=name)


def hidden_rows(outputs: int):
    """Random uint8 pictures, states, a mask of a third of the patches and a head."""
    torch.manual_seed(0)
    pixels = torch.randint(0, 256, (3, 3, 16, 16), dtype=torch.uint8)
    pixels[0, :, :4, :4] = 7  # a flat patch
    masked = torch.rand(3, 16) < 0.3
    masked[0, 0] = True
    return pixels, torch.randn(3, 16, 6), masked, torch.nn.Linear(6, outputs)


def test_pixels_have_the_loss_of_mae() -> None:
    """Released code of MAE: each patch minus its mean, over the root of its unbiased variance + 1e-6; mean squared
    error over a patch's values; mean over removed patches."""
    target = PixelTarget(4)
    pixels, states, masked, head = hidden_rows(target.outputs)
    losses = []
    for row, patch in masked.nonzero().tolist():
        top, left = 4 * (patch // 4), 4 * (patch % 4)
        values = pixels[row, :, top : top + 4, left : left + 4].double().numpy().ravel() / 255
        wanted = (values - values.mean()) / np.sqrt(values.var(ddof=1) + 1e-6)
        predicted = head(states[row, patch]).detach().double().numpy()
        losses.append(np.mean((predicted - wanted) ** 2))
    found = target.loss(states, masked, target.of(Images(pixels_BCHW=pixels)), head)
    assert found.loss.item() == pytest.approx(np.mean(losses), rel=1e-5)
    assert (found.positions, found.correct, found.named("images")) == (len(losses), None, "images_mse")


@pytest.mark.parametrize("loss", ["cosine", "smooth_l1"])
def test_features_of_hog(loss: str) -> None:
    """Histograms themselves are held against skimage in tests/models/teachers."""
    teacher = HOGTeacher(4)
    target = FeatureTarget(teacher, loss=loss)
    pixels, states, masked, head = hidden_rows(teacher.dim)
    features, losses = teacher(pixels).double().numpy(), []
    for row, patch in masked.nonzero().tolist():
        wanted, predicted = features[row, patch], head(states[row, patch]).detach().double().numpy()
        if loss == "cosine":
            losses.append(1 - wanted @ predicted / np.linalg.norm(wanted) / np.linalg.norm(predicted))
        else:
            away = np.abs(predicted - (wanted - wanted.mean()) / np.sqrt(wanted.var() + 1e-5))
            losses.append(np.mean(np.where(away < 1, away**2 / 2, away - 0.5)))
    found = target.loss(states, masked, target.of(Images(pixels_BCHW=pixels)), head)
    assert found.loss.item() == pytest.approx(np.mean(losses), rel=1e-4)
    assert found.measure == {"cosine": "cosine_distance", "smooth_l1": "smooth_l1"}[loss] and found.correct is None


@pytest.mark.parametrize("name", ["pixels", "cosine", "smooth_l1"])
def test_bytes_and_floats_are_the_same_picture(name: str) -> None:
    pixels, *_ = hidden_rows(1)
    target = made(name)
    of_bytes = target.of(Images(pixels_BCHW=pixels))
    of_floats = target.of(Images(pixels_BCHW=pixels.float() / 127.5 - 1))
    away = (of_bytes - of_floats).abs()
    # A gradient on the border between two directions may fall to either side.
    assert away.median() < 1e-5 and (away > 1e-3).float().mean() < (1e-4 if name == "pixels" else 0.01)


@pytest.mark.parametrize("name", ["codes", "pixels", "cosine", "smooth_l1"])
def test_every_target_trains_the_encoder_and_from_cls(config, stream, name: str) -> None:
    target = made(name)
    torch.manual_seed(0)
    model = PretrainModel(config(), 8 if name == "codes" else target.outputs)
    batch = PretrainBatch(images=stream("images", masked=True), pairs=stream(masked=True, seed=1))
    losses, _ = masked_losses(model, target, batch, from_cls=True)
    plain = ["images", "pairs_image", "pairs_text"]
    assert sorted(losses) == sorted([*plain, *(f"{key}_cls" for key in plain)])
    assert losses["pairs_text"].measure is None and losses["images"].measure == losses["images_cls"].measure
    torch.stack([losses["images"].loss, losses["images_cls"].loss]).sum().backward()
    for weight in (model.image_head.weight, model.from_cls[0].weight, model.encoder.norm.weight):
        assert weight.grad is not None and weight.grad.abs().sum() > 0 and weight.grad.isfinite().all()
    # [CLS] alone: its states plus positions, through the same head and loss
    states = model.encoder(batch.images).streams[0].image_BND
    guess = model.from_cls(states[:, :1] + model.encoder.image.positions_ND[1:])
    images = batch.images.images
    again = target.loss(guess, images.masked_BN, target.of(images), model.image_head)
    torch.testing.assert_close(losses["images_cls"].loss, again.loss)


@pytest.mark.parametrize("name", ["pixels", "cosine", "smooth_l1"])
def test_nothing_hidden_is_a_loss_of_zero(name: str) -> None:
    target = made(name)
    pixels, states, masked, head = hidden_rows(target.outputs)
    found = target.loss(states, masked & False, target.of(Images(pixels_BCHW=pixels)), head)
    assert found.loss.item() == 0 and found.positions == 0
    found.loss.backward()
    assert not head.weight.grad.any()


def test_codes_that_came_with_the_pictures_are_not_computed_again() -> None:
    pixels, *_ = hidden_rows(1)
    calls = []
    target = CodeTarget(SimpleNamespace(codes=lambda given: calls.append(len(given)) or CODES.codes(given)))
    before = CODES.codes(pixels) + 1
    assert torch.equal(target.of(Images(pixels_BCHW=pixels, codes_BN=before)), before) and not calls
    assert torch.equal(target.of(Images(pixels_BCHW=pixels)), before - 1) and calls == [3]


def test_a_teacher_is_frozen() -> None:
    target = FeatureTarget(build_teacher("timm:test_vit/", VISION))
    assert not target.training and not any(p.requires_grad for p in target.parameters())
    assert not target.of(Images(pixels_BCHW=torch.rand(1, 3, 16, 16))).requires_grad
    with pytest.raises(ValueError, match="feature_loss=l2"):
        FeatureTarget(HOGTeacher(4), loss="l2")  # type: ignore[arg-type]
