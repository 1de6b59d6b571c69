"""Fine-tuning at another size of pictures than the model it starts from. The shipped shards cut to 48 pairs.

Truth: timm's interpolation of both kinds of positions; all other weights stay.
"""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from timm.layers import resample_abs_pos_embed, resize_rel_pos_bias_table

from mm_mhmoe.commands.finetune import retrieval, vqa
from mm_mhmoe.commands.tokenizer import train as train_tokenizer
from mm_mhmoe.config import EncoderConfig, TextConfig, VisionConfig
from mm_mhmoe.models.checkpoints import load, read_config, read_weights, save
from mm_mhmoe.models.tasks import PretrainModel

BEFORE, AFTER = 4, 6


@pytest.fixture
def source(small_demo, small_config, tmp_path: Path) -> Path:
    """A model of pictures of 64 pixels, with both kinds of positions, and its tokenizer."""
    train_tokenizer(**small_config(train_tokenizer, "tokenizer", out=tmp_path / "words"))
    config = EncoderConfig(
        dim=32,
        depth=2,
        num_heads=2,
        ffn_dim=64,
        ffn="dense",
        multiway=True,
        relative_positions="layer",
        vision=VisionConfig(image_size=16 * BEFORE),
        text=TextConfig(vocab_size=200, max_length=12),
    )
    torch.manual_seed(0)
    model = PretrainModel(config, 8)
    for block in model.encoder.blocks:
        torch.nn.init.normal_(block.relative_positions.table_RH)
    save(model, tmp_path / "m")
    return tmp_path / "m"


@pytest.mark.parametrize(("command", "config"), [(retrieval, "finetune_retrieval"), (vqa, "finetune_vqa")])
def test_positions_are_interpolated_and_the_size_is_saved(source, small_config, tmp_path, command, config) -> None:
    out, words = tmp_path / "out", source.parent / "words"
    arguments = small_config(command, config, out=out, init=source, tokenizer=words, steps=0)
    command(**{**arguments, "encoder": None, "image_size": 16 * AFTER})
    saved = read_config(out)
    assert saved["encoder"]["vision"]["image_size"] == 16 * AFTER and saved["run"]["arguments"]["image_size"] == 96
    before, after = read_weights(source), read_weights(out)
    for name, value in after.items():
        if name == "encoder.image.positions_ND":
            wanted = resample_abs_pos_embed(before[name][None], [AFTER, AFTER], [BEFORE, BEFORE], antialias=False)[0]
            torch.testing.assert_close(value, wanted)
        elif name.endswith("table_RH"):
            torch.testing.assert_close(value, resize_rel_pos_bias_table(before[name], (AFTER, AFTER), value.shape))
        elif name.startswith("encoder."):
            assert torch.equal(value, before[name])
    assert load(out).vision.num_patches == AFTER**2


def test_patches_have_to_divide_it(source, small_config, tmp_path: Path) -> None:
    arguments = small_config(retrieval, "finetune_retrieval", out=tmp_path / "out", init=source, tokenizer=tmp_path)
    with pytest.raises(ValueError, match=r"vision.image_size=100 is not a positive multiple of vision.patch_size=16"):
        retrieval(**{**arguments, "encoder": None, "image_size": 100})
