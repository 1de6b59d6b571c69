"""Truth: the weights that the library gives, and the source's outputs where they must stay."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from torch import nn

from mm_mhmoe.commands.parser import command_parser
from mm_mhmoe.commands.upcycle import dense, resized, sparse
from mm_mhmoe.config import MoEConfig, VisionConfig
from mm_mhmoe.models.checkpoints import load, read_config, read_weights, save
from mm_mhmoe.models.tasks import PretrainModel, RetrievalModel, VQAModel
from mm_mhmoe.models.upcycling import resize
from mm_mhmoe.models.visual_tokenizer import VisualTokenizer, VisualTokenizerConfig

KINDS = ["pretrain", "retrieval", "vqa"]


@pytest.fixture
def make(config, tmp_path: Path):
    """A model directory of that kind, with something in place of a text tokenizer."""

    def model(kind: str = "pretrain", name: str = "source", **changes) -> Path:
        torch.manual_seed(0)
        encoder = config(**{"ffn": "dense", **changes})
        made: nn.Module
        if kind == "pretrain":
            made = PretrainModel(encoder, 8)
        elif kind == "retrieval":
            made = RetrievalModel(encoder, 6)
        else:
            made = VQAModel(encoder, ["yes", "no"])
        words = tmp_path / "words"
        words.write_bytes(b"tokenizer")
        save(made, tmp_path / name, run={"command": "made up", "seed": 3}, files={"tokenizer.model": words})
        return tmp_path / name

    return model


def outputs(model: nn.Module, pairs) -> list[torch.Tensor]:
    with torch.no_grad():
        if isinstance(model, RetrievalModel):
            return [model.embed_images(pairs.images), model.embed_texts(pairs.texts)]
        if isinstance(model, VQAModel):
            return [model.answer_logits(pairs)]
        states = model.encoder(pairs).streams[0]
        return [model.image_head(states.image_BND), model.text_head(states.text_BLD[pairs.texts.valid_BL])]


@pytest.mark.parametrize("kind", KINDS)
def test_copies_of_every_kind_of_model(make, stream, kind: str, tmp_path: Path, capsys) -> None:
    source = make(kind)
    sparse(f"local-dir:{source}", tmp_path / "out", seed=4)
    before, after = load(source), load(tmp_path / "out")
    assert type(after) is type(before) and after.config.ffn == "moe"
    assert after.config.moe == MoEConfig(parity="none", hidden_dim=128)
    for ours, theirs in zip(outputs(after, stream("pairs")), outputs(before, stream("pairs")), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)
    told = capsys.readouterr().out
    assert "dense, 128 wide -> moe, top-2 of 8 experts, 128 wide" in told and "as before" in told
    assert f"{sum(p.numel() for p in after.parameters()):,}" in told


def test_the_directory_says_where_it_comes_from(make, tmp_path: Path) -> None:
    source = make()
    sparse(str(source), tmp_path / "out", moe=MoEConfig(num_experts=4), noise=0.1, seed=4)
    record = read_config(tmp_path / "out")["run"]
    assert record["command"] == "upcycle sparse" and record["source"] == {"command": "made up", "seed": 3}
    assert record["arguments"]["model"] == str(source) and record["arguments"]["seed"] == 4
    assert record["arguments"]["moe"]["num_experts"] == 4
    assert {p.name for p in (tmp_path / "out").iterdir()} == {
        "config.json", "model.safetensors", "README.md", "tokenizer.model"
    }  # fmt: skip
    assert (tmp_path / "out" / "tokenizer.model").read_bytes() == b"tokenizer"
    assert json.dumps(record["source"]["command"]) in (tmp_path / "out" / "README.md").read_text()


def test_sub_tokens_without_shards(make, tmp_path: Path, capsys) -> None:
    sparse(str(make()), tmp_path / "out", ffn="mh_moe", moe=MoEConfig(num_experts=4, top_k=1))
    assert load(tmp_path / "out").config.moe.parity == "flops"
    told = capsys.readouterr().out
    assert "mh_moe, 4 heads, top-1 of 4 experts, 96 wide" in told and "a part of a token" in told


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"top_k": 1}, "weights need not sum to one"),
        ({"router": "expert_choice"}, "weights need not sum to one"),
        ({"top_k": 1, "shared_experts": 1}, "as before"),
        ({"noise": 0.1}, "changed by the noise"),
    ],
)
def test_what_is_told_about_the_function(make, tmp_path: Path, capsys, options: dict, told: str) -> None:
    moe = MoEConfig(num_experts=4, **{k: v for k, v in options.items() if k != "noise"})
    sparse(str(make()), tmp_path / "out", moe=moe, noise=options.get("noise", 0.0))
    assert told in capsys.readouterr().out


def test_one_head_has_the_dense_width(make, tmp_path: Path) -> None:
    sparse(str(make()), tmp_path / "out", ffn="mh_moe", moe=MoEConfig(heads=1))
    assert load(tmp_path / "out").config.expert_hidden_dim == 128


def test_resize_is_the_librarys(make, config, tmp_path: Path) -> None:
    source = make(ffn="mh_moe")
    options = {"top_k": 3, "noise": 0.1, "router_noise": 0.2, "seed": 5}
    resized(str(source), tmp_path / "out", num_experts=6, **options)
    wanted_config, wanted = resize(config(ffn="mh_moe"), read_weights(source), 6, **options)
    found = load(tmp_path / "out")
    assert found.config == wanted_config
    assert all(torch.equal(found.state_dict()[name], value) for name, value in wanted.items())
    assert read_config(tmp_path / "out")["run"]["command"] == "upcycle resize"


def test_dense_is_the_way_back(make, tmp_path: Path) -> None:
    source = make()
    sparse(str(source), tmp_path / "sparse")
    dense(str(tmp_path / "sparse"), tmp_path / "back")
    dense(str(tmp_path / "sparse"), tmp_path / "third", expert=2)
    before = load(source).state_dict()
    for name in ("back", "third"):
        after = load(tmp_path / name).state_dict()
        assert before.keys() == after.keys() and all(torch.equal(before[k], after[k]) for k in before)


def test_what_cannot_be_is_refused(make, tmp_path: Path) -> None:
    source, out = str(make()), tmp_path / "out"
    with pytest.raises(ValueError, match="exists; choose another --out"):
        sparse(source, tmp_path)
    with pytest.raises(ValueError, match="nowhere is not a model directory"):
        sparse(str(tmp_path / "nowhere"), out)
    with pytest.raises(ValueError, match="copies need no data"):
        sparse(source, out, shards="demo:train")
    with pytest.raises(ValueError, match="leave it out for more experts"):
        resized(str(make(name="sparse", ffn="moe")), out, num_experts=9, shards="demo:train")
    for shards in (None, "demo:train"):
        with pytest.raises(ValueError, match="ffn=moe already"):
            sparse(str(tmp_path / "sparse"), out, ffn="mh_moe", shards=shards)
        with pytest.raises(ValueError, match="model is dense"):
            resized(source, out, num_experts=2, shards=shards)
    vision = VisionConfig(image_size=16, patch_size=4)
    small = {"dim": 16, "num_heads": 2, "encoder_depth": 1, "num_codes": 8, "code_dim": 4}
    save(VisualTokenizer(VisualTokenizerConfig(**small, vision=vision)), tmp_path / "codes")
    with pytest.raises(ValueError, match="codes is a visual tokenizer and has no experts"):
        dense(str(tmp_path / "codes"), out)
    assert not out.exists()


def test_the_options_of_the_experts_are_listed() -> None:
    text = command_parser(sparse, "upcycle sparse", "").format_help()
    assert "--moe.num_experts" in text and "--moe.router" in text
