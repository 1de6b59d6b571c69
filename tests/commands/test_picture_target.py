"""Truth: files of minuscule runs, and losses computed again from the saved model. Pictures and captions are made up."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from mm_mhmoe_data.datamodules import PretrainDataModule

from mm_mhmoe.commands.pretrain import pretrain
from mm_mhmoe.commands.run_logs import read_metrics
from mm_mhmoe.config import EncoderConfig, MoEConfig, TextConfig, VisionConfig
from mm_mhmoe.models.checkpoints import fingerprint, load, save
from mm_mhmoe.models.teachers import build_teacher
from mm_mhmoe.models.visual_tokenizer import VisualTokenizer, VisualTokenizerConfig
from mm_mhmoe.objectives.masked import masked_losses
from mm_mhmoe.objectives.picture_targets import FeatureTarget, PixelTarget
from mm_mhmoe.training.optim import OptimConfig
from mm_mhmoe.training.trainer import RunConfig

VISION = VisionConfig(image_size=16, patch_size=4)
ENCODER = EncoderConfig(
    dim=16,
    depth=2,
    num_heads=2,
    ffn_dim=64,
    vision=VISION,
    text=TextConfig(vocab_size=50, max_length=16),
    moe=MoEConfig(num_experts=2, heads=2),
)


@pytest.fixture
def run(shards, tokenizer, tmp_path: Path):
    def go(name: str, **options: Any) -> Path:
        values = {
            "out": tmp_path / name,
            "tokenizer": tokenizer.path.parent,
            "encoder": ENCODER,
            "optim": OptimConfig(lr=1e-3, warmup_steps=1),
            "steps": 2,
            "shards": str(shards),
            "val_shards": str(shards),
            "batch_images": 4,
            "batch_texts": 2,
            "batch_pairs": 4,
            "cls_loss": True,
            "run": RunConfig(accelerator="cpu", precision="32-true", log_every=1, checkpoint_every=1),
        }
        pretrain(**{**values, **options})
        return tmp_path / name

    return go


@pytest.fixture
def codes(tmp_path: Path) -> Path:
    torch.manual_seed(0)
    small = {"dim": 16, "num_heads": 2, "encoder_depth": 1, "num_codes": 8, "code_dim": 4}
    save(VisualTokenizer(VisualTokenizerConfig(**small, vision=VISION)), tmp_path / "codes")
    return tmp_path / "codes"


@pytest.mark.parametrize(
    ("options", "measure", "outputs"),
    [
        ({"image_target": "pixels"}, "mse", 48),
        ({"image_target": "features", "teacher": "hog"}, "cosine_distance", 109),
        ({"image_target": "features", "teacher": "timm:test_vit/", "feature_loss": "smooth_l1"}, "smooth_l1", 64),
    ],
)
def test_a_run_without_codes(run, shards, tokenizer, options: dict[str, str], measure: str, outputs: int) -> None:
    out = run("run", **options)
    model = load(out)
    assert (model.image_target.kind, model.image_outputs) == (options["image_target"], outputs)
    assert json.loads((out / "config.json").read_text())["image_target"]["kind"] == options["image_target"]
    metrics = read_metrics(out)
    assert {f"train/images_{measure}", f"train/pairs_image_cls_{measure}", "train/texts"} <= metrics.keys()
    assert "val/pairs_text_accuracy" in metrics
    assert not {"val/images", "val/images_accuracy", "train/pairs_image"} & metrics.keys()
    teacher = options.get("teacher")
    target = (
        FeatureTarget(build_teacher(teacher, VISION), loss=options.get("feature_loss", "cosine"))
        if teacher
        else PixelTarget(4)
    )
    sizes = {"batch_images": 4, "batch_texts": 2, "batch_pairs": 4, "num_steps": 2}
    data = PretrainDataModule(shards, tokenizer, VISION, ENCODER.text, **sizes, val_shards=shards)
    with torch.no_grad():
        losses, _ = masked_losses(model, target, next(iter(data.val_dataloader())), from_cls=True)
    for name in ("images", "pairs_image"):
        assert metrics[f"val/{name}_{measure}"][-1][1] == pytest.approx(losses[name].loss.item(), rel=1e-4)


def test_teachers_and_tokenizers_stay_out_of_checkpoints(run, codes: Path, monkeypatch) -> None:
    kept: list[set[str]] = []
    saved = torch.save
    monkeypatch.setattr(
        torch, "save", lambda content, *rest: kept.append({*content["state_dict"]}) or saved(content, *rest)
    )
    out = run("run", visual_tokenizer=codes)
    assert kept and all(name.startswith("model.") for names in kept for name in names)
    model = load(out)
    assert model.num_codes == 8 and model.image_target.source == fingerprint(codes)
    assert {"train/images", "val/images", "val/images_accuracy"} <= read_metrics(out).keys()


def test_going_on_from_another_target_takes_the_encoder_alone(run) -> None:
    before = run("pixels", image_target="pixels")
    untrained = {"steps": 0, "encoder": None, "init": before}
    same, other = run("same", image_target="pixels", **untrained), run("other", **untrained, **HOG)
    first, again, changed = (load(out) for out in (before, same, other))
    assert torch.equal(first.text_head.weight, again.text_head.weight)
    assert not torch.equal(first.text_head.weight, changed.text_head.weight)
    assert torch.equal(first.encoder.norm.weight, changed.encoder.norm.weight)


HOG = {"image_target": "features", "teacher": "hog"}


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({}, "image_target=codes needs visual_tokenizer"),
        ({"image_target": "features"}, "image_target=features needs a teacher"),
        ({"image_target": "features", "teacher": "sift"}, "teacher=sift is unknown"),
        ({"image_target": "pixels", "teacher": "hog"}, "teacher=hog is for image_target=features; here it is pixels"),
    ],
)
def test_options_that_do_not_go_together(run, options: dict[str, str], told: str) -> None:
    with pytest.raises(ValueError, match=told):
        run("run", **options)


def test_a_model_is_no_visual_tokenizer(run, saved) -> None:
    with pytest.raises(ValueError, match="is no visual tokenizer; make one with mm-mhmoe vqkd"):
        run("run", visual_tokenizer=Path(saved("other")))
