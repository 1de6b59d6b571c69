"""Truth: the visual tokenizer run on the batches of a run without cached codes. Pictures and captions are made up."""

from __future__ import annotations

import shutil
import warnings
from dataclasses import replace
from pathlib import Path

import lightning as L
import numpy as np
import pytest
import torch
from mm_mhmoe_data.cached_codes import CodeRecipe, code_recipe
from mm_mhmoe_data.config import DataConfig
from mm_mhmoe_data.datamodules import PretrainDataModule

from mm_mhmoe.commands.tokenize_images import tokenize_images
from mm_mhmoe.config import TextConfig, VisionConfig
from mm_mhmoe.models.checkpoints import fingerprint, load, save
from mm_mhmoe.models.visual_tokenizer import VisualTokenizer, VisualTokenizerConfig
from mm_mhmoe.objectives.masked import masked_losses
from mm_mhmoe.objectives.picture_targets import CodeTarget

VISION = VisionConfig(image_size=16, patch_size=4)
DATA = DataConfig(flip="caption", color_jitter=0.4, interpolation="bicubic", captions="lines")
SIZES = {"batch_images": 8, "batch_texts": 0, "batch_pairs": 12, "num_steps": 4, "seed": 3}


@pytest.fixture(scope="module")
def codes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    small = {"dim": 16, "num_heads": 2, "encoder_depth": 1, "num_codes": 8, "code_dim": 4}
    tokenizer = VisualTokenizer(VisualTokenizerConfig(**small, vision=VISION))
    # Spread out, so that pictures get many different codes.
    torch.nn.init.normal_(tokenizer.patch.proj.weight)
    torch.nn.init.normal_(tokenizer.to_code[3].weight)
    save(tokenizer, tmp_path_factory.mktemp("codes") / "codes")
    return tmp_path_factory.getbasetemp() / "codes0" / "codes"


def cache(out: Path, codes: Path, shards: Path, **changes) -> Path:
    options = {"epochs": 2, "seed": 3, "precision": "32-true", "accelerator": "cpu", "workers": 1, "data": DATA}
    tokenize_images(codes, out, str(shards), **{**options, **changes})
    return out


@pytest.fixture(scope="module")
def cached(codes: Path, shards: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return cache(tmp_path_factory.mktemp("cached") / "out", codes, shards)


def recipe(codes: Path, data: DataConfig = DATA, **changes) -> CodeRecipe:
    options = {"precision": "32-true", "image_size": 16, "min_scale": 0.5, "seed": 3}
    return code_recipe(data, tokenizer=fingerprint(codes), **{**options, **changes})


@pytest.fixture
def batches(shards, tokenizer):
    def make(data: DataConfig, wanted: CodeRecipe | None = None, **changes):
        text = TextConfig(vocab_size=50, max_length=16)
        module = PretrainDataModule(
            shards, tokenizer, VISION, text, **{**SIZES, **changes}, data=data, codes=wanted, min_scale=0.5
        )
        module.setup("fit")
        return [module.make_batch(step) for step in range(module.num_steps)]

    return make


def test_the_same_codes_and_losses_as_on_the_fly(codes, cached, batches, model, capsys) -> None:
    """Of 24 samples pictures are read 32 times and pairs 48 times, so into the second epoch; captions decide flips."""
    tokenizer, encoder = load(codes), model("pretrain").eval()
    plain = batches(DATA)
    read = batches(replace(DATA, codes=str(cached)), recipe(codes))
    seen = set()
    for ours, theirs in zip(read, plain, strict=True):
        for name in ("images", "pairs"):
            images = getattr(ours, name).images
            expected = tokenizer.codes(getattr(theirs, name).images.pixels_BCHW)
            assert torch.equal(images.pixels_BCHW, getattr(theirs, name).images.pixels_BCHW)
            assert images.codes_BN.dtype == torch.int64 and torch.equal(images.codes_BN, expected)
            seen |= set(expected.flatten().tolist())
        with torch.no_grad():
            target = CodeTarget(tokenizer)
            for name, part in masked_losses(encoder, target, ours)[0].items():
                assert part.loss.item() == masked_losses(encoder, target, theirs)[0][name].loss.item()
    assert len(seen) > 2 and "takes" not in capsys.readouterr().out


def test_16_mixed_on_a_cpu_is_what_lightning_makes_of_it(codes, shards, batches, tmp_path) -> None:
    """Truth: Lightning's own word for the precision, and autocast in it."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        named = str(L.Trainer(accelerator="cpu", precision="16-mixed", logger=False, barebones=True).precision)
    assert named == "bf16-mixed"
    out = cache(tmp_path / "out", codes, shards, precision="16-mixed", epochs=1)
    known = replace(DATA, codes=str(out))
    (read,) = batches(known, recipe(codes, precision=named), num_steps=1)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        expected = load(codes).codes(read.images.images.pixels_BCHW)
    assert torch.equal(read.images.images.codes_BN, expected)


def test_streams_and_epochs_have_codes_of_their_own(cached) -> None:
    """Crops differ, so most samples have other codes."""
    images, pairs = (
        [np.load(path) for path in sorted((cached / stream).glob("*.npy"))] for stream in ("images", "pairs")
    )
    assert [codes.shape for codes in images] == [codes.shape for codes in pairs] == [(2, n, 16) for n in sizes(images)]
    assert all(codes.dtype == np.uint16 and codes.max() < 8 for codes in (*images, *pairs))
    assert (images[0] != pairs[0]).any() and (images[0][0] != images[0][1]).any()


def sizes(arrays) -> list[int]:
    found = [codes.shape[1] for codes in arrays]
    assert sorted(found) == [4, 10, 10]  # 24 samples in shards of ten
    return found


def test_epochs_that_are_not_there_are_computed_on_the_fly(codes, cached, batches, capsys) -> None:
    read = batches(replace(DATA, codes=str(cached)), recipe(codes), num_steps=7, batch_pairs=0)
    known = [batch.images.images.codes_BN is not None for batch in read]
    assert known == [True] * 6 + [False]  # 8 * 6 = 48 = two epochs
    assert "stream images takes 3 epochs" in capsys.readouterr().out


def test_more_epochs_are_added_and_what_is_done_is_left(codes, cached, shards, tmp_path, capsys) -> None:
    out = tmp_path / "out"
    shutil.copytree(cached, out)
    first = sorted(out.rglob("*.npy"))[0]
    first.unlink()
    cache(out, codes, shards)
    assert "5 of 6 files had these 2 epochs before" in " ".join(capsys.readouterr().out.split())
    cache(out, codes, shards, epochs=3, streams="images")
    for path in out.rglob("*.npy"):
        ours, theirs = np.load(path), np.load(cached / path.relative_to(out))
        assert np.array_equal(ours[:2], theirs) and len(ours) == (3 if path.parent.name == "images" else 2)


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"data": replace(DATA, flip="on")}, "captions: lines there, None here; flip: caption there, on here"),
        ({"data": replace(DATA, color_jitter=0.0)}, "color_jitter: 0.4 there, 0.0 here"),
        ({"data": replace(DATA, interpolation="bilinear")}, "interpolation: bicubic there, bilinear here"),
        ({"seed": 4}, "seed: 3 there, 4 here"),
        ({"min_scale": 0.2}, "min_scale: 0.5 there, 0.2 here"),
        ({"precision": "bf16-mixed"}, "precision: 32-true there, bf16-mixed here"),
    ],
)
def test_another_recipe_is_refused_with_both_values(codes, cached, shards, batches, changes, told: str) -> None:
    with pytest.raises(ValueError, match=told):
        batches(replace(changes.get("data", DATA), codes=str(cached)), recipe(codes, **changes))
    with pytest.raises(ValueError, match=told):
        cache(cached, codes, shards, **changes)


def test_another_tokenizer_and_what_is_missing_are_refused(codes, cached, batches, tmp_path) -> None:
    other = replace(recipe(codes), tokenizer="beef")
    with pytest.raises(ValueError, match=f"tokenizer: {fingerprint(codes)} there, beef here"):
        batches(replace(DATA, codes=str(cached)), other)
    with pytest.raises(ValueError, match=r"manifest\.json does not exist; make codes of this stream"):
        batches(replace(DATA, codes=str(tmp_path)), recipe(codes))
    shutil.copytree(cached, tmp_path / "out")
    gone, *_, cut = sorted((tmp_path / "out" / "pairs").glob("*.npy"))
    cut.write_bytes(cut.read_bytes()[:200])
    with pytest.raises(ValueError, match=r"is damaged .* delete it"):
        batches(replace(DATA, codes=str(tmp_path / "out")), recipe(codes))
    gone.unlink()
    with pytest.raises(ValueError, match=r"has no codes of .*tar .*1 shards.*tokenize-images"):
        batches(replace(DATA, codes=str(tmp_path / "out")), recipe(codes))
    with pytest.raises(ValueError, match="mode=stream takes no codes"):
        DataConfig(mode="stream", codes="x")
