"""Truth: what timm and open_clip themselves compute for the same picture, normalised by hand. Weights are random."""

import open_clip
import pytest
import timm
import torch
import torch.nn.functional as F

from mm_mhmoe.config import EncoderConfig, TextConfig, VisionConfig
from mm_mhmoe.models import checkpoints
from mm_mhmoe.models.tasks import RetrievalModel
from mm_mhmoe.models.teachers import NetworkTeacher, PixelTeacher, build_teacher, check_teacher_name
from mm_mhmoe.models.visual_tokenizer import VisualTokenizer, VisualTokenizerConfig

VISION = VisionConfig(image_size=160, patch_size=16)


@pytest.fixture(scope="module")
def pixels() -> torch.Tensor:
    return torch.randint(0, 256, (2, 3, 160, 160), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


def test_a_timm_vit_gives_its_normed_patches_in_order(pixels) -> None:
    teacher = build_teacher("timm:test_vit/", VISION)
    assert isinstance(teacher, NetworkTeacher) and teacher.own_grid == (10, 10) and teacher.image_size == 160
    config = timm.get_pretrained_cfg("test_vit")
    mean, std = (torch.tensor(value).view(3, 1, 1) for value in (config.mean, config.std))
    with torch.no_grad():
        theirs = teacher.network.forward_features((pixels / 255.0 - mean) / std)
    assert theirs.shape == (2, 1 + 100, teacher.dim)
    torch.testing.assert_close(teacher(pixels), theirs[:, 1:], rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(teacher(pixels.float() / 127.5 - 1.0), teacher(pixels), rtol=1e-4, atol=1e-4)


def test_features_of_another_grid_are_interpolated(pixels) -> None:
    """160 px pictures of 5x5 patches against a teacher of 10x10: PyTorch's antialiased bilinear of its feature map."""
    student = VisionConfig(image_size=160, patch_size=32)
    own, other = build_teacher("timm:test_vit/", VISION), build_teacher("timm:test_vit/", student)
    found = other(pixels)
    assert found.shape == (2, 25, own.dim)
    map_BPhw = own(pixels).transpose(1, 2).unflatten(2, (10, 10))
    wanted = F.interpolate(map_BPhw, (5, 5), mode="bilinear", antialias=True).flatten(2).transpose(1, 2)
    torch.testing.assert_close(found, wanted)
    # Left and right, above and below stay where they were: a bright quarter changes its own patches most.
    bright = pixels.clone()
    bright[:, :, :80, 80:] = 255
    change = (other(bright) - found).norm(dim=-1).mean(dim=0).view(5, 5)
    assert change[:2, 3:].min() > change[3:, :2].max()


def test_any_size_of_picture_and_any_timm_network() -> None:
    """A network of convolutions at another size: one feature a patch, whatever its own grid."""
    teacher = build_teacher("timm:test_resnet/", VisionConfig(image_size=96, patch_size=16))
    assert teacher(torch.zeros(1, 3, 96, 96, dtype=torch.uint8)).shape == (1, 36, teacher.dim)


def test_open_clip_patches_are_in_the_space_of_its_embeddings(monkeypatch) -> None:
    """The tower's own tokens after its last norm, times its projection: what BEiT-v2 takes from CLIP."""
    tower = {"image_size": 32, "patch_size": 8, "width": 64, "head_width": 32, "layers": 2}
    text = {"context_length": 8, "vocab_size": 50, "width": 32, "heads": 2, "layers": 1}
    model = open_clip.CLIP(embed_dim=24, vision_cfg=tower, text_cfg=text)
    model.visual.preprocess_cfg = {"mean": (0.4, 0.5, 0.6), "std": (0.2, 0.3, 0.4)}
    monkeypatch.setattr(open_clip, "create_model", lambda architecture, pretrained: model)
    teacher = build_teacher("open_clip:ViT-B-16/", VisionConfig(image_size=32, patch_size=8))
    pixels = torch.randint(0, 256, (2, 3, 32, 32), dtype=torch.uint8)
    scaled = (pixels / 255.0 - torch.tensor([0.4, 0.5, 0.6]).view(3, 1, 1)) / torch.tensor([0.2, 0.3, 0.4]).view(
        3, 1, 1
    )
    model.visual.output_tokens = True
    with torch.no_grad():
        pooled, tokens = model.visual(scaled)
    assert teacher.dim == pooled.shape[1] == 24
    torch.testing.assert_close(teacher(pixels), tokens @ model.visual.proj, rtol=1e-4, atol=1e-5)


def test_the_encoder_of_our_own_model_directory(tmp_path) -> None:
    torch.manual_seed(0)
    config = EncoderConfig(
        dim=16,
        depth=1,
        num_heads=2,
        ffn_dim=32,
        ffn="dense",
        vision=VisionConfig(image_size=32, patch_size=8),
        text=TextConfig(vocab_size=20, max_length=8),
    )
    checkpoints.save(RetrievalModel(config, 4), tmp_path / "model")
    teacher = build_teacher(f"local-dir:{tmp_path}/model", VisionConfig(image_size=32, patch_size=16))
    pixels = torch.randint(0, 256, (2, 3, 32, 32), dtype=torch.uint8)
    assert teacher.own_grid == (4, 4) and teacher(pixels).shape == (2, 4, 16)
    torch.testing.assert_close(teacher(pixels.float() / 127.5 - 1.0), teacher(pixels), rtol=1e-4, atol=1e-4)
    small = VisualTokenizerConfig(dim=16, num_heads=2, encoder_depth=1, vision=config.vision)
    checkpoints.save(VisualTokenizer(small), tmp_path / "codes")
    with pytest.raises(ValueError, match="holds no encoder"):
        build_teacher(f"local-dir:{tmp_path}/codes", VISION)


def test_a_teacher_never_learns_and_its_random_weights_are_its_name(pixels) -> None:
    torch.manual_seed(5)
    drawn = torch.rand(1)
    torch.manual_seed(5)
    teacher = build_teacher("timm:test_vit/", VISION)
    assert torch.equal(torch.rand(1), drawn)  # random numbers of the run are those of a run without it
    again = build_teacher("timm:test_vit/", VISION)
    assert torch.equal(teacher(pixels), again(pixels))
    assert not any(parameter.requires_grad for parameter in teacher.parameters())
    assert not any(module.training for module in teacher.train().network.modules())
    assert not teacher(pixels).requires_grad


@pytest.mark.parametrize(
    "name", ["pixels", "hog", "timm:vit_tiny_patch16_224.x", "open_clip:ViT-B-16/", "local-dir:a/b"]
)
def test_names(name: str) -> None:
    check_teacher_name(name)


@pytest.mark.parametrize(
    "name", ["clip", "timm:", "timm:/", "open_clip:ViT-B-16", "open_clip:/openai", "", "local-dir:"]
)
def test_unknown_names_say_what_is_known(name: str) -> None:
    with pytest.raises(ValueError, match="known are pixels, hog"):
        VisualTokenizerConfig(teacher=name)


def test_what_cannot_be_had_is_an_error_of_one_sentence(tmp_path) -> None:
    for name, reason in (
        ("timm:no_such_model/", "cannot be made"),
        ("open_clip:no-such-model/", "has no no-such-model"),
        (f"local-dir:{tmp_path}", "is not a model directory"),
    ):
        with pytest.raises(ValueError, match=reason):
            build_teacher(name, VISION)
    assert isinstance(build_teacher("pixels", VISION), PixelTeacher)


def test_a_picture_tower_without_projected_patches_is_refused(monkeypatch) -> None:
    tower = {"image_size": 32, "width": 8, "layers": (1, 1, 1, 1)}  # a ResNet
    text = {"context_length": 8, "vocab_size": 50, "width": 32, "heads": 2, "layers": 1}
    model = open_clip.CLIP(embed_dim=24, vision_cfg=tower, text_cfg=text)
    monkeypatch.setattr(open_clip, "create_model", lambda architecture, pretrained: model)
    with pytest.raises(ValueError, match="projects no patches"):
        build_teacher("open_clip:RN50/", VISION)
