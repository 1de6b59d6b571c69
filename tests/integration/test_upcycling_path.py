"""From a dense pretraining run to a sparse model that is trained on, with the shipped shards cut to 48 pairs.

Truth: the losses of the dense run, which copies must start from; the weights that a run starts with.
"""

from __future__ import annotations

import runpy
from pathlib import Path

import pytest
import torch

from mm_mhmoe.commands import upcycle
from mm_mhmoe.commands.finetune import retrieval
from mm_mhmoe.commands.pretrain import pretrain
from mm_mhmoe.commands.probe import expert_counts, ffn_inputs, probe_streams
from mm_mhmoe.commands.run_logs import read_metrics
from mm_mhmoe.commands.tokenizer import train as train_tokenizer
from mm_mhmoe.commands.vqkd import vqkd
from mm_mhmoe.config import MoEConfig
from mm_mhmoe.models.checkpoints import load, load_pretrained, read_encoder_config, read_weights
from mm_mhmoe.models.tasks import PretrainModel, RetrievalModel, TaskModel


@pytest.fixture
def parts(small_demo, small_config, tmp_path: Path) -> dict[str, Path]:
    """Both tokenizers."""
    train_tokenizer(**small_config(train_tokenizer, "tokenizer", out=tmp_path / "words"))
    vqkd(**small_config(vqkd, "vqkd", out=tmp_path / "codes"))
    return {"tokenizer": tmp_path / "words", "visual_tokenizer": tmp_path / "codes"}


@pytest.fixture
def trained(parts, small_config, tmp_path: Path):
    """Pretrains an encoder with that FFN for two steps: the directory."""

    def run(ffn: str) -> Path:
        pretrain(**small_config(pretrain, "pretrain", out=tmp_path / ffn, **{"encoder.ffn": ffn}, **parts))
        return tmp_path / ffn

    return run


def going_on(small_config, parts, init: Path, out: Path, **changes) -> dict:
    """Arguments of `mm-mhmoe pretrain --init ...` without an encoder of its own."""
    arguments = small_config(pretrain, "pretrain", out=out, init=init, **parts, **changes)
    return {**arguments, "encoder": None}


def first_loss(out: Path) -> float:
    log = read_metrics(out)
    return sum(log[f"train/{name}"][0][1] for name in ("images", "texts", "pairs_image", "pairs_text"))


def test_copies_are_trained_on_from_where_the_dense_model_was(trained, parts, small_config, tmp_path: Path) -> None:
    source = trained("dense")
    upcycle.sparse(str(source), tmp_path / "sparse", moe=MoEConfig(num_experts=4), noise=0.0)
    for init, out in ((source, "dense_on"), (tmp_path / "sparse", "sparse_on")):
        pretrain(**going_on(small_config, parts, init, tmp_path / out))
    assert first_loss(tmp_path / "sparse_on") == pytest.approx(first_loss(tmp_path / "dense_on"), abs=1e-4)
    assert first_loss(tmp_path / "dense_on") != pytest.approx(first_loss(source), abs=1e-2)
    before, after = read_weights(tmp_path / "sparse"), read_weights(tmp_path / "sparse_on")
    stack = "encoder.blocks.1.ffn.experts.w1_EdF"
    assert torch.equal(before[stack][0], before[stack][1]) and not torch.equal(after[stack][0], after[stack][1])
    assert not torch.equal(before["text_head.weight"], after["text_head.weight"])


def test_without_steps_the_start_is_init_heads_included(trained, parts, small_config, tmp_path: Path) -> None:
    source = trained("mh_moe")
    pretrain(**going_on(small_config, parts, source, tmp_path / "on", steps=0))
    before, after = read_weights(source), read_weights(tmp_path / "on")
    assert before.keys() == after.keys() and all(torch.equal(before[k], after[k]) for k in before)


def test_sub_tokens_are_fitted_on_pairs_and_fine_tuned(trained, parts, small_config, tmp_path: Path) -> None:
    source = trained("dense")
    upcycle.sparse(str(source), tmp_path / "plain", ffn="mh_moe", moe=MoEConfig(num_experts=4))
    upcycle.sparse(str(source), tmp_path / "out", ffn="mh_moe", moe=MoEConfig(num_experts=4), shards="demo:train")
    plain, fitted = read_weights(tmp_path / "plain"), read_weights(tmp_path / "out")
    merge = "encoder.blocks.1.ffn.merge.weight"
    assert not torch.equal(plain[merge], fitted[merge])

    dense = load(source)
    assert isinstance(dense, TaskModel)
    x_TD = ffn_inputs(dense, probe_streams(dense, source, "demo:val", pairs=16))[1]
    wanted_TD = dense.encoder.blocks[1].ffn(x_TD)
    missed = []
    for name in ("plain", "out"):
        made = load(tmp_path / name)
        assert isinstance(made, TaskModel)
        y_TD, _ = made.encoder.blocks[1].ffn(x_TD)
        y_TD, wanted_TD = y_TD.detach(), wanted_TD.detach()
        missed.append(float((y_TD - wanted_TD).square().sum() / (wanted_TD - wanted_TD.mean(dim=0)).square().sum()))
    assert missed[1] < 0.5 * missed[0] and missed[1] < 0.3

    tuned = {**small_config(retrieval, "finetune_retrieval", out=tmp_path / "tuned"), "encoder": None}
    retrieval(**{**tuned, "init": tmp_path / "out", "tokenizer": parts["tokenizer"]})
    assert load(tmp_path / "tuned").config == read_encoder_config(tmp_path / "out")
    moved = read_weights(tmp_path / "tuned")[merge]
    assert moved.isfinite().all() and not torch.equal(moved, fitted[merge])


def test_the_most_used_experts_stay(trained, tmp_path: Path) -> None:
    source = trained("mh_moe")
    model = load(source)
    assert isinstance(model, TaskModel)
    counts_E = expert_counts(model, probe_streams(model, source, "demo:train", pairs=16))[1]
    kept = sorted(range(4), key=lambda e: -int(counts_E[e]))[:2]
    upcycle.resized(str(source), tmp_path / "out", num_experts=2, shards="demo:train", pairs=16)
    stack = "encoder.blocks.1.ffn.moe.experts.w1_EdF"
    assert torch.equal(read_weights(tmp_path / "out")[stack], read_weights(source)[stack][sorted(kept)])


def test_probes_of_every_kind_of_model(trained, tmp_path: Path) -> None:
    source = trained("dense")
    config = read_encoder_config(source)
    pretraining = probe_streams(load(source), source, "demo:train", pairs=5)  # type: ignore[arg-type]
    assert [(s.images is None, s.texts is None) for s in pretraining] == [(False, True), (True, False), (False, False)]
    assert pretraining[0].images.masked_BN.any() and pretraining[2].texts.masked_BL.any()
    dual = RetrievalModel(config, 4).eval()
    images, texts = probe_streams(dual, source, "demo:train", pairs=5)
    assert images.texts is None and texts.images is None and images.images.masked_BN is None
    inputs = ffn_inputs(dual, (images, texts))
    real = images.images.pixels_BCHW.shape[0] * (1 + config.vision.num_patches) + int(texts.texts.valid_BL.sum())
    assert {layer: x.shape for layer, x in inputs.items()} == {0: (real, 32), 1: (real, 32)}
    assert not dual.encoder.blocks[1].ffn._forward_pre_hooks
    with pytest.raises(ValueError, match="pairs=0"):
        probe_streams(dual, source, "demo:train", pairs=0)


def test_heads_are_taken_only_where_they_fit(trained) -> None:
    source = trained("dense")
    config, weights = read_encoder_config(source), read_weights(source)
    codes = len(weights["image_head.bias"])
    for num_codes, taken in ((codes, True), (codes + 1, False)):
        torch.manual_seed(9)
        model = PretrainModel(config, num_codes)
        load_pretrained(source, model)
        assert torch.equal(model.encoder.norm.weight, weights["encoder.norm.weight"])
        assert torch.equal(model.text_head.weight, weights["text_head.weight"]) is taken


def test_pretraining_needs_an_encoder_or_init(parts, small_config, tmp_path: Path) -> None:
    arguments = small_config(pretrain, "pretrain", out=tmp_path / "run", **parts)
    with pytest.raises(ValueError, match="neither init nor encoder"):
        pretrain(**{**arguments, "encoder": None})


def test_the_documentations_numbers_can_be_made(trained, parts, monkeypatch, capsys, shipped: Path) -> None:
    script = runpy.run_path(str(Path(__file__).parents[2] / "docs" / "examples" / "upcycling.py"))
    monkeypatch.setitem(script["main"].__globals__, "data_path", lambda name: str(shipped / name.removeprefix("demo:")))
    source, codes = str(trained("dense")), str(parts["visual_tokenizer"])
    capsys.readouterr()
    rows = script["main"](source, codes, steps=1, val_batches=1, pairs=16)
    assert len(rows) == capsys.readouterr().out.count("\n") - 2 == 8
    for name in ("moe, top-2, copies", "moe, top-1, copies and one shared"):
        assert rows[name][0] < 1e-9 and rows[name][1] == pytest.approx(rows["dense"][1], abs=1e-4)
    assert rows["mh_moe, 4 heads, fitted on pairs"][0] < rows["mh_moe, 4 heads, fitted on random inputs"][0] < 0.8
    assert rows["mh_moe, 4 heads, fresh"][0] > 0.8
