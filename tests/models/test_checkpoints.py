"""Truth: a saved model is the model, bit for bit; and each kind of damage is told, not guessed around."""

import json
import os
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from mm_mhmoe.config import MoEConfig, VisionConfig
from mm_mhmoe.models import checkpoints
from mm_mhmoe.models.checkpoints import (
    CONFIG,
    WEIGHTS,
    fingerprint,
    load,
    load_encoder,
    load_pretrained,
    read_config,
    save,
)
from mm_mhmoe.models.image_target import ImageTarget
from mm_mhmoe.models.tasks import ClassificationModel, NLVR2Model, PretrainModel, RetrievalModel, VQAModel
from mm_mhmoe.models.visual_tokenizer import VisualTokenizer, VisualTokenizerConfig

KINDS = ["visual_tokenizer", "pretrain", "retrieval", "vqa", "nlvr2", "classification"]


@pytest.fixture
def make(config):
    def model(kind: str, seed: int = 0, **changes) -> nn.Module:
        torch.manual_seed(seed)
        if kind == "visual_tokenizer":
            vision = VisionConfig(image_size=16, patch_size=4)
            small = {"dim": 16, "num_heads": 2, "encoder_depth": 1, "num_codes": 8, "code_dim": 4}
            return VisualTokenizer(VisualTokenizerConfig(**small, vision=vision))
        if kind == "pretrain":
            return PretrainModel(config(**changes), 8)
        if kind == "retrieval":
            return RetrievalModel(config(**changes), 6)
        if kind == "nlvr2":
            return NLVR2Model(config(**changes))
        if kind == "classification":
            return ClassificationModel(config(**changes), ["cat", "dog"])
        return VQAModel(config(**changes), ["yes", "no"])

    return model


def same(a: nn.Module, b: nn.Module) -> bool:
    ours, theirs = a.state_dict(), b.state_dict()
    return ours.keys() == theirs.keys() and all(torch.equal(ours[k], theirs[k]) for k in ours)


@pytest.mark.parametrize("kind", KINDS)
def test_round_trip_is_bit_exact(make, kind: str, tmp_path: Path) -> None:
    model = make(kind)
    save(model, tmp_path / "m", run={"seed": 5})
    torch.manual_seed(99)
    for source in (tmp_path / "m", str(tmp_path / "m"), f"local-dir:{tmp_path / 'm'}"):
        loaded = load(source)
        assert type(loaded) is type(model) and loaded.config == model.config and not loaded.training
        assert same(loaded, model)
    assert read_config(tmp_path / "m")["run"] == {"seed": 5}
    for told in ("answers", "classes"):
        assert getattr(loaded, told, None) == getattr(model, told, None)


def test_contrastive_heads_come_along_where_they_fit(config, tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = PretrainModel(config(), 8, embed_dim=6)
    save(model, tmp_path / "m")
    loaded = load(tmp_path / "m")
    assert isinstance(loaded, PretrainModel) and loaded.embed_dim == 6 and same(loaded, model)
    theirs = model.state_dict()
    for embed_dim in (6, 5, None):
        into = PretrainModel(config(), 8, embed_dim=embed_dim)
        before = {k: v.clone() for k, v in into.state_dict().items()}
        load_pretrained(tmp_path / "m", into)
        fits = embed_dim == 6
        for name, value in into.state_dict().items():
            own = name.startswith(("contrastive_head.", "match_head.")) and not fits
            assert torch.equal(value, before[name] if own else theirs[name]), name


def test_the_directory_is_whole_and_readable(make, tmp_path: Path) -> None:
    extra = tmp_path / "words"
    extra.write_bytes(b"tokenizer")
    save(make("pretrain"), tmp_path / "m", files={"tokenizer.model": extra})
    assert {p.name for p in (tmp_path / "m").iterdir()} == {WEIGHTS, CONFIG, "README.md", "tokenizer.model"}
    assert (tmp_path / "m" / "tokenizer.model").read_bytes() == b"tokenizer"
    assert {p.name for p in tmp_path.iterdir()} == {"m", "words"}
    assert (tmp_path / "m").stat().st_mode & 0o777 == 0o755
    count = sum(p.numel() for p in make("pretrain").parameters())
    assert f"{count:,} parameters" in (tmp_path / "m" / "README.md").read_text()


def test_saving_again_replaces(make, tmp_path: Path) -> None:
    save(make("pretrain", seed=0), tmp_path / "m")
    save(make("pretrain", seed=1), tmp_path / "m")
    assert same(load(tmp_path / "m"), make("pretrain", seed=1))
    assert [p.name for p in tmp_path.iterdir()] == ["m"]


@pytest.mark.parametrize("where", ["save_file", "write_text", "rename"])
def test_an_interrupted_save_leaves_the_old_model(make, tmp_path: Path, monkeypatch, where: str) -> None:
    old = make("pretrain", seed=0)
    save(old, tmp_path / "m")

    def fail(*args, **kwargs):
        raise KeyboardInterrupt

    def fail_in_place(source, target):
        if Path(target) == tmp_path / "m" and Path(source).suffix != ".old":
            raise KeyboardInterrupt
        return rename(source, target)

    rename = os.replace
    with monkeypatch.context() as patch:
        if where == "save_file":
            patch.setattr(checkpoints, "save_file", fail)
        elif where == "write_text":
            patch.setattr(Path, "write_text", fail)
        else:
            patch.setattr(os, "replace", fail_in_place)
        with pytest.raises(KeyboardInterrupt):
            save(make("pretrain", seed=1), tmp_path / "m")
    assert same(load(tmp_path / "m"), old)
    assert [p.name for p in tmp_path.iterdir()] == ["m"]


def test_a_full_disk_is_an_os_error(make, tmp_path: Path) -> None:
    """safetensors has an error type of its own for it; /dev/full stands in for the disk."""
    with pytest.raises(OSError, match="/dev/full"):
        checkpoints._save_weights(make("pretrain"), Path("/dev/full/model.safetensors"))


def test_another_module_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="Linear is not a model"):
        save(nn.Linear(2, 2), tmp_path / "m")


@pytest.fixture
def saved(make, tmp_path: Path) -> Path:
    save(make("pretrain"), tmp_path / "m")
    return tmp_path / "m"


def rewrite(directory: Path, **changes) -> None:
    config = json.loads((directory / CONFIG).read_text())
    (directory / CONFIG).write_text(json.dumps({**config, **changes}))


@pytest.mark.parametrize("name", [WEIGHTS, CONFIG])
def test_missing_files_are_named(saved: Path, name: str) -> None:
    (saved / name).unlink()
    with pytest.raises(ValueError, match=f"no {name}"):
        load(saved)


def test_missing_directory_is_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="nowhere is not a model directory"):
        load(tmp_path / "nowhere")


@pytest.mark.parametrize("keep", [0, 4, 500, -1])
def test_cut_weights_are_damaged(saved: Path, keep: int) -> None:
    content = (saved / WEIGHTS).read_bytes()
    (saved / WEIGHTS).write_bytes(content[:keep])
    with pytest.raises(ValueError, match=rf"{WEIGHTS} is damaged .*export"):
        load(saved)


def test_a_pickle_is_not_read(saved: Path, tmp_path: Path) -> None:
    class Trap:
        def __reduce__(self):
            return Path.touch, (tmp_path / "executed",)

    torch.save({"x": Trap()}, saved / WEIGHTS)
    with pytest.raises(ValueError, match="damaged"):
        load(saved)
    assert not (tmp_path / "executed").exists()


@pytest.mark.parametrize("content", ["{", "[]", '"x"', "{}"])
def test_a_broken_config_is_named(saved: Path, content: str) -> None:
    (saved / CONFIG).write_text(content)
    with pytest.raises(ValueError, match=CONFIG):
        load(saved)


def test_other_formats_and_kinds_are_named(saved: Path) -> None:
    rewrite(saved, format=7)
    with pytest.raises(ValueError, match="has format 7; this version reads format 1"):
        load(saved)
    rewrite(saved, format=1, kind="captioner")
    with pytest.raises(ValueError, match="kind 'captioner'; known are"):
        load(saved)
    rewrite(saved, kind="vqa")
    with pytest.raises(ValueError, match="no entry 'answers'"):
        load(saved)


def test_weights_of_another_model_are_told_apart(saved: Path) -> None:
    weights = load_file(saved / WEIGHTS)
    weights["more"] = torch.zeros(1)
    weights["text_head.bias"] = torch.zeros(3)
    del weights["image_head.bias"]
    save_file(weights, saved / WEIGHTS)
    with pytest.raises(ValueError) as error:
        load(saved)
    for part in ("image_head.bias is missing", "more is left over", "text_head.bias has shape (3,) instead of (40,)"):
        assert part in str(error.value)


@pytest.mark.parametrize("url", ["https://example.org/m", "http://example.org/m", "s3://bucket/m", "file:///tmp/m"])
def test_urls_are_refused(url: str) -> None:
    with pytest.raises(ValueError, match="not from a URL"):
        load(url)


def test_encoder_is_taken_and_the_head_stays(make, saved: Path) -> None:
    ours = make("retrieval", seed=7)
    head = ours.head.image_proj.weight.clone()
    load_encoder(saved, ours)
    assert same(ours.encoder, make("pretrain").encoder)
    assert torch.equal(ours.head.image_proj.weight, head)


def test_encoders_that_differ_are_refused_with_both_values(make, saved: Path) -> None:
    other = make("retrieval", depth=3, moe=MoEConfig(num_experts=2, heads=4))
    before = {k: v.clone() for k, v in other.state_dict().items()}
    with pytest.raises(ValueError) as error:
        load_encoder(saved, other)
    assert "depth: checkpoint 2, this run 3" in str(error.value)
    assert "moe.num_experts: checkpoint 4, this run 2" in str(error.value)
    assert all(torch.equal(before[k], v) for k, v in other.state_dict().items())


def test_training_settings_may_differ(make, saved: Path, config) -> None:
    moe = replace(config().moe, balance_loss_weight=0.5, z_loss_weight=0.0)
    ours = make("vqa", seed=7, drop_path=0.3, moe=moe)
    load_encoder(saved, ours)
    assert same(ours.encoder, make("pretrain").encoder)


SAME = {"kind": "features", "source": "hog cosine"}


@pytest.mark.parametrize(
    ("outputs", "target", "ours", "taken"),
    [
        (8, {}, {}, True),
        (8, {}, {"source": "f00d"}, True),  # whose codes they are was not written down
        (8, {"source": "f00d"}, {"source": "f00d"}, True),
        (8, {"source": "f00d"}, {"source": "beef"}, False),
        (9, {}, {}, False),
        (8, {"kind": "pixels"}, {"kind": "pixels"}, True),
        (8, {"kind": "pixels"}, {}, False),
        (8, SAME, SAME, True),
        (8, SAME, {**SAME, "source": "pixels cosine"}, False),
    ],
)
def test_heads_are_taken_where_they_mean_the_same(tmp_path, config, outputs, target, ours, taken: bool) -> None:
    torch.manual_seed(0)
    theirs = PretrainModel(config(), outputs, ImageTarget(**target))
    save(theirs, tmp_path / "m")
    assert load(tmp_path / "m").image_target == ImageTarget(**target)
    into = PretrainModel(config(), 8, ImageTarget(**ours))
    load_pretrained(tmp_path / "m", into)
    assert same(into.encoder, theirs.encoder)
    for head in ("image_head", "text_head", "from_cls"):
        assert same(getattr(into, head), getattr(theirs, head)) is taken


def test_a_model_of_an_earlier_version_predicts_codes(saved: Path) -> None:
    config = json.loads((saved / CONFIG).read_text())
    earlier = {k: v for k, v in config.items() if not k.startswith("image_")}
    (saved / CONFIG).write_text(json.dumps({**earlier, "num_codes": 8}))
    model = load(saved)
    assert model.image_target == ImageTarget() and model.num_codes == 8


def test_codes_of_a_model_without_codes_are_refused(config) -> None:
    with pytest.raises(ValueError, match="image_target=pixels; it predicts no codes"):
        _ = PretrainModel(config(), 48, ImageTarget(kind="pixels")).num_codes
    with pytest.raises(ValueError, match="image_target=words is unknown"):
        ImageTarget(kind="words")  # type: ignore[arg-type]


def test_a_fingerprint_is_that_of_weights_and_configuration(make, tmp_path: Path) -> None:
    for name, seed, changes in (("a", 0, {}), ("b", 0, {}), ("c", 1, {}), ("d", 0, {"drop_path": 0.1})):
        save(make("pretrain", seed=seed, **changes), tmp_path / name, run={"command": name})
    found = {name: fingerprint(tmp_path / name) for name in "abcd"}
    assert found["a"] == found["b"] and len(set(found.values())) == 3
    assert all(len(value) == 16 for value in found.values())


def test_a_visual_tokenizer_has_no_encoder_to_start_from(make, tmp_path: Path) -> None:
    save(make("visual_tokenizer"), tmp_path / "v")
    with pytest.raises(ValueError, match="visual_tokenizer model and has no encoder"):
        load_encoder(tmp_path / "v", make("pretrain"))
