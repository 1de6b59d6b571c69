"""Truth: what is in a checkpoint, read back; an uninterrupted run. Pictures are random, and so is the teacher."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from mm_mhmoe_data.config import DataConfig
from mm_mhmoe_data.datamodules import StepDataModule

from mm_mhmoe.batch import Images, ImageTextBatch
from mm_mhmoe.config import VisionConfig
from mm_mhmoe.models.teachers import NetworkTeacher, build_teacher
from mm_mhmoe.models.vector_quantizer import VectorQuantizer
from mm_mhmoe.models.visual_tokenizer import VisualTokenizer, VisualTokenizerConfig
from mm_mhmoe.training.modules import VisualTokenizerModule
from mm_mhmoe.training.optim import OptimConfig
from mm_mhmoe.training.trainer import RunConfig, fit

VISION = VisionConfig(image_size=16, patch_size=4)


class RandomPictures(StepDataModule):
    def make_batch(self, step: int, empty=None) -> ImageTextBatch:
        generator = torch.Generator().manual_seed(step)
        return ImageTextBatch(
            images=Images(pixels_BCHW=torch.randint(0, 256, (4, 3, 16, 16), dtype=torch.uint8, generator=generator))
        )


def train(out: Path, *, steps: int = 4) -> VisualTokenizer:
    teacher = build_teacher("timm:test_vit/", VISION)
    before = [value.clone() for value in teacher.state_dict().values()]
    torch.manual_seed(0)
    model = VisualTokenizer(
        VisualTokenizerConfig(
            teacher="timm:test_vit/",
            teacher_dim=teacher.dim,
            architecture="beit2",
            dim=16,
            num_heads=2,
            encoder_depth=1,
            num_codes=8,
            code_dim=4,
            vision=VISION,
        )
    )
    module = VisualTokenizerModule(model, teacher, OptimConfig(lr=1e-2, warmup_steps=1), steps=4, codebook_start=1)
    run = RunConfig(accelerator="cpu", precision="32-true", checkpoint_every=2, log_every=1)
    data = RandomPictures(num_steps=steps, workers=0, seed=0, data=DataConfig(), quarantine=None)
    fit(module, data, title="test", steps=steps, out=out, run=run, optim=module.optim_config)
    assert all(torch.equal(a, b) for a, b in zip(before, teacher.state_dict().values(), strict=True))
    assert isinstance(teacher, NetworkTeacher) and not teacher.network.training
    return model


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> tuple[Path, VisualTokenizer]:
    out = tmp_path_factory.mktemp("whole")
    return out, train(out)


def test_checkpoints_hold_the_model_and_of_the_teacher_its_name(whole) -> None:
    out, model = whole
    content = torch.load(sorted((out / "checkpoints").glob("*.ckpt"))[-1], weights_only=True)
    assert content["state_dict"].keys() == {f"model.{name}" for name in model.state_dict()}
    assert '"teacher": "timm:test_vit/"' in content["model_description"]
    optimised = sum(len(group["params"]) for group in content["optimizer_states"][0]["param_groups"])
    assert optimised == len(list(model.parameters()))


def test_a_run_that_goes_on_ends_as_one_that_was_never_stopped(whole, tmp_path: Path) -> None:
    """Half of the steps, then the rest from the checkpoint."""
    train(tmp_path, steps=2)
    resumed = train(tmp_path)
    for name, value in whole[1].state_dict().items():
        assert torch.equal(value, resumed.state_dict()[name]), name


def test_a_skipped_start_of_the_codebook_comes_a_step_later(tmp_path: Path, monkeypatch) -> None:
    """The step of the codebook's start, 1, has no finite pixel. Truth: where k-means was called, and on what."""
    started: list[bool] = []
    start = VectorQuantizer.start

    def look(self: VectorQuantizer, vectors: torch.Tensor) -> None:
        started.append(bool(vectors.isfinite().all()))
        start(self, vectors)

    make = RandomPictures.make_batch

    def spoil(self: RandomPictures, step: int, empty=None) -> ImageTextBatch:
        batch = make(self, step)
        if step != 1:
            return batch
        return ImageTextBatch(images=Images(pixels_BCHW=torch.full((4, 3, 16, 16), torch.nan)))

    monkeypatch.setattr(VectorQuantizer, "start", look)
    monkeypatch.setattr(RandomPictures, "make_batch", spoil)
    model = train(tmp_path)
    assert started == [False, True]
    assert all(value.isfinite().all() for value in model.state_dict().values())
    kept = torch.load(tmp_path / "checkpoints" / "step_00000002.ckpt", weights_only=True)
    assert kept["codebook_start"] == 2
