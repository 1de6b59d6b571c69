"""Truth: files of a run and their numbers, counted again from the model. Pictures are made up, teachers random."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from PIL import Image

from mm_mhmoe.commands import vqkd_view
from mm_mhmoe.commands.vqkd import vqkd
from mm_mhmoe.config import VisionConfig
from mm_mhmoe.models.checkpoints import load, save
from mm_mhmoe.models.visual_tokenizer import VisualTokenizerConfig
from mm_mhmoe.training.optim import OptimConfig
from mm_mhmoe.training.trainer import RunConfig

RUN = RunConfig(accelerator="cpu", precision="32-true", log_every=1)


def train(shards: Path, out: Path, **changes) -> Path:
    options = {
        "dim": 16,
        "num_heads": 2,
        "encoder_depth": 1,
        "num_codes": 12,
        "code_dim": 4,
        "vision": VisionConfig(image_size=16, patch_size=4),
    }
    config = VisualTokenizerConfig(**{**options, **changes})
    vqkd(out, config, OptimConfig(lr=1e-2, warmup_steps=1), steps=3, shards=str(shards), batch_size=8, run=RUN)
    return out


@pytest.mark.parametrize(
    ("teacher", "architecture", "dim"),
    [("pixels", "sub_ln", 3 * 16 + 1), ("hog", "beit2", 3 * 4 * 9 + 1), ("timm:test_vit/", "beit2", 64)],
)
def test_from_pictures_to_a_figure(call, shards, tmp_path, teacher: str, architecture: str, dim: int) -> None:
    run = train(shards, tmp_path / "run", teacher=teacher, architecture=architecture)
    model = load(run)
    assert model.config.teacher == teacher and model.config.teacher_dim == dim
    code, out, err = call("vqkd-view", "--model", run, "--out", tmp_path / "view", "--shards", shards, "--pictures", 3)
    assert code == 0, err
    numbers = json.loads((tmp_path / "view" / "codes.json").read_text())
    assert numbers["patches"] == sum(numbers["counts"]) == 24 * 16
    assert numbers["used"] == sum(count > 0 for count in numbers["counts"])
    assert f"{numbers['used']} of 12 codes" in " ".join(out.split())
    assert Image.open(tmp_path / "view" / "codes.png").height > 500


def test_counts_are_the_codes_of_the_pictures(shards, tmp_path) -> None:
    """Pictures of 20 px in shards, so the model's own codes of their resized centres; by another road than the view."""
    from mm_mhmoe_data.pipeline import ShardDataset
    from mm_mhmoe_data.transforms import EvalTransform

    model = load(train(shards, tmp_path / "run"))
    usage, drawn = vqkd_view.look(model, str(shards), samples=24, pictures=2, seed=0, batch_size=7)
    dataset = ShardDataset(shards, parts="images")
    pixels = torch.stack([EvalTransform(16)(dataset.picture(i)) for i in range(24)])
    codes = model.codes(pixels)
    assert torch.equal(usage.counts_K, codes.flatten().bincount(minlength=12))
    assert len(drawn) == 2 and any(torch.equal(drawn[0].codes_hw.flatten(), row) for row in codes)


def test_few_codes_are_told_with_what_to_try(call, shards, tmp_path, monkeypatch) -> None:
    """Eleven of twelve codes are one and the same, so that at most two are ever chosen."""
    model = load(train(shards, tmp_path / "run"))
    model.quantizer.codebook_KC[1:] = -model.vectors(torch.zeros(1, 3, 16, 16))[0, 0]
    model.quantizer.codebook_KC[0] = -model.quantizer.codebook_KC[1]
    save(model, tmp_path / "collapsed")
    words = ["vqkd-view", "--model", tmp_path / "collapsed", "--out", tmp_path / "view", "--shards", shards]
    code, out, _ = call(*words)
    assert code == 0 and "of the codes are in use. Try" in " ".join(out.split())
    monkeypatch.setattr(vqkd_view, "ENOUGH", 24 * 16)
    assert "Try" not in call(*words)[1]


def test_errors_name_what_is_wrong(call, shards, tmp_path, saved) -> None:
    run = train(shards, tmp_path / "run")
    for words, named in (
        (["--model", saved("other"), "--out", tmp_path / "v"], "is no visual tokenizer"),
        (["--model", run, "--out", tmp_path / "v", "--pictures", 0], "pictures=0"),
        (["--model", tmp_path / "none", "--out", tmp_path / "v"], "is not a model directory"),
    ):
        code, _, err = call("vqkd-view", *words, "--shards", shards)
        assert code == 1 and named in " ".join(err.split())
    assert not (tmp_path / "v").exists()
    code, _, err = call("import", "vqkd", "--src", tmp_path / "none.pth", "--out", tmp_path / "v")
    assert code == 1 and "is no file" in err
