"""Truth: the definition of VQ-KD's loss, and that a few steps on fixed pictures lower it."""

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F

from mm_mhmoe.config import VisionConfig
from mm_mhmoe.models.teachers import PixelTeacher
from mm_mhmoe.models.visual_tokenizer import VisualTokenizer, VisualTokenizerConfig

CONFIG = VisualTokenizerConfig(
    dim=16,
    num_heads=2,
    encoder_depth=1,
    decoder_depth=1,
    num_codes=8,
    code_dim=4,
    vision=VisionConfig(image_size=16, patch_size=4),
)


TEACHER = PixelTeacher(4)


@pytest.fixture
def tokenizer() -> VisualTokenizer:
    torch.manual_seed(0)
    return VisualTokenizer(CONFIG)


@pytest.fixture
def pixels() -> torch.Tensor:
    return torch.randint(0, 256, (6, 3, 16, 16), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


def test_codes_are_one_a_patch_and_deterministic(tokenizer, pixels) -> None:
    codes = tokenizer.codes(pixels)
    assert codes.shape == (6, 16) and codes.dtype == torch.int64
    assert codes.min() >= 0 and codes.max() < 8 and len(codes.unique()) > 1
    assert torch.equal(codes, tokenizer.codes(pixels))


def test_codes_are_those_of_the_loss(tokenizer, pixels) -> None:
    assert torch.equal(tokenizer.loss(pixels, TEACHER(pixels)).codes_N, tokenizer.codes(pixels).flatten())


def test_loss_is_cosine_distance_plus_commitment(tokenizer, pixels) -> None:
    loss = tokenizer.loss(pixels, TEACHER(pixels))
    codes_BN = tokenizer.codes(pixels)
    predicted = tokenizer.decode(tokenizer.quantizer.codebook_KC[codes_BN])
    cosine = F.cosine_similarity(predicted, TEACHER(pixels), dim=-1)
    torch.testing.assert_close(loss.distance, (1 - cosine).mean(), rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(loss.total, loss.distance + loss.commitment)


def test_unquantised_loss_takes_the_vectors_as_they_are(tokenizer, pixels) -> None:
    loss = tokenizer.loss(pixels, TEACHER(pixels), quantized=False)
    predicted = tokenizer.decode(F.normalize(tokenizer.vectors(pixels), dim=-1))
    cosine = F.cosine_similarity(predicted, TEACHER(pixels), dim=-1)
    torch.testing.assert_close(loss.distance, (1 - cosine).mean(), rtol=1e-4, atol=1e-6)
    assert loss.commitment.item() == 0.0 and torch.equal(loss.total, loss.distance)
    assert not torch.isclose(loss.distance, tokenizer.loss(pixels, TEACHER(pixels)).distance, rtol=1e-5, atol=0)


def test_gradient_reaches_every_parameter_but_not_the_codebook(tokenizer, pixels) -> None:
    tokenizer.loss(pixels, TEACHER(pixels)).total.backward()
    assert [name for name, p in tokenizer.named_parameters() if p.grad is None] == []
    assert "quantizer.codebook_KC" not in dict(tokenizer.named_parameters())


def test_a_few_steps_lower_the_loss(tokenizer, pixels) -> None:
    tokenizer.quantizer.start(tokenizer.vectors(pixels).flatten(0, 1).detach())
    optimizer = torch.optim.Adam(tokenizer.parameters(), lr=3e-3)
    history = []
    for _ in range(15):
        loss = tokenizer.loss(pixels, TEACHER(pixels))
        tokenizer.quantizer.update(loss.vectors_NC, loss.codes_N)
        optimizer.zero_grad()
        loss.total.backward()
        optimizer.step()
        history.append(loss.distance.item())
    assert history[-1] < 0.8 * history[0]


def test_reconstruct_draws_pictures_of_the_input_size(tokenizer, pixels) -> None:
    drawn = tokenizer.reconstruct(tokenizer.codes(pixels))
    assert drawn.shape == pixels.shape and drawn.is_floating_point()
    assert drawn.abs().max() <= 1.0
    other = tokenizer.reconstruct(tokenizer.codes(255 - pixels))
    assert not torch.equal(drawn, other)


def test_a_teacher_of_features_needs_their_width_and_draws_no_pictures(pixels) -> None:
    with pytest.raises(ValueError, match="teacher=hog needs teacher_dim"):
        VisualTokenizer(replace(CONFIG, teacher="hog"))
    other = VisualTokenizer(replace(CONFIG, teacher="hog", teacher_dim=5))
    assert other.decode(other.quantizer.codebook_KC[other.codes(pixels)]).shape == (6, 16, 5)
    with pytest.raises(ValueError, match="teacher=hog predicts features"):
        other.reconstruct(other.codes(pixels))


def test_pictures_of_another_size_are_refused_with_both(tokenizer) -> None:
    with pytest.raises(ValueError, match=r"\(20, 20\) pixels.*\(16, 16\)"):
        tokenizer.codes(torch.zeros(1, 3, 20, 20, dtype=torch.uint8))


def test_the_weight_of_commitment(pixels) -> None:
    losses = []
    for weight in (1.0, 0.25):
        torch.manual_seed(0)
        losses.append(VisualTokenizer(replace(CONFIG, commitment_weight=weight)).loss(pixels, TEACHER(pixels)))
    one, quarter = losses
    assert one.commitment > 0 and torch.equal(one.distance, quarter.distance)
    torch.testing.assert_close(quarter.commitment, one.commitment / 4)
    torch.testing.assert_close(quarter.total, one.distance + one.commitment / 4)


def test_autocast_leaves_the_last_layer_of_vectors_alone(tokenizer, pixels) -> None:
    """The blocks may run in bf16; given their states, vectors are those of fp32."""
    states = torch.randn(6, 16, 16)
    tokenizer.encoder_blocks.forward = lambda _: states.bfloat16()
    with torch.autocast("cpu", dtype=torch.bfloat16), torch.no_grad():
        found = tokenizer.vectors(pixels)
    assert found.dtype == torch.float32
    assert torch.equal(found, tokenizer.to_code(states.bfloat16().float()))


def test_initial_weights_of_beit2() -> None:
    """Deviations by their formula: .02, and .02 / sqrt(2 l) for what block l adds. Truncation is far out, at 2."""
    torch.manual_seed(0)
    model = VisualTokenizer(replace(CONFIG, architecture="beit2", dim=128, encoder_depth=3))
    for number, block in enumerate(model.encoder_blocks, start=1):
        assert block.attn.qkv.weight.std().item() == pytest.approx(0.02, rel=0.03)
        for layer in (block.attn.proj, block.mlp.fc2):
            assert layer.weight.std().item() == pytest.approx(0.02 / (2 * number) ** 0.5, rel=0.03)
            assert not layer.bias.any()
    assert model.to_code[1].weight.std().item() == pytest.approx(0.02, rel=0.03)


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"dim": 17}, "tokenizer.dim=17"),
        ({"num_codes": 1}, "num_codes=1"),
        ({"decoder_depth": 0}, "decoder_depth=0"),
        ({"architecture": "vit"}, "architecture=vit"),
        ({"ema_decay": 1.0}, "ema_decay=1.0"),
        ({"teacher": "clip"}, "teacher=clip"),
    ],
)
def test_errors_name_field_and_value(changes, named: str) -> None:
    with pytest.raises(ValueError, match=named):
        VisualTokenizerConfig(**changes)


def test_dict_round_trip() -> None:
    assert VisualTokenizerConfig.from_dict(CONFIG.to_dict()) == CONFIG
    later = ("teacher", "teacher_dim", "architecture", "commitment_weight")  # models saved before these existed
    assert VisualTokenizerConfig.from_dict({k: v for k, v in CONFIG.to_dict().items() if k not in later}) == CONFIG
    for broken in ({**CONFIG.to_dict(), "num_code": 3}, {"dim": 16}):
        with pytest.raises(ValueError, match=r"num_code|vision"):
            VisualTokenizerConfig.from_dict(broken)
