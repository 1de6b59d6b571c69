"""Truth: what a run would fail at in its first step is refused before anything is read."""

from __future__ import annotations

from pathlib import Path

from mm_mhmoe.commands.sources import config_path


def test_losses_from_cls_need_positions_of_patches(call, tmp_path: Path) -> None:
    """The demo has cls_loss; neither of its tokenizers is there."""
    words = ["--encoder.image_positions=false", "--encoder.relative_positions=layer", f"--tokenizer={tmp_path / 'no'}"]
    words += [f"--visual_tokenizer={tmp_path / 'no'}", f"--out={tmp_path / 'run'}"]
    code, _, err = call("pretrain", "--config", config_path("demo/pretrain.yaml"), *words)
    assert code == 1 and "cls_loss=true needs the positions of hidden patches" in err
    code, _, err = call("pretrain", "--config", config_path("demo/pretrain.yaml"), *words, "--cls_loss=false")
    assert code == 1 and "cls_loss" not in err  # now the missing tokenizer is named


def test_weights_of_losses_without_a_stream_are_refused(call, tmp_path: Path) -> None:
    words = [
        "--config",
        config_path("demo/pretrain.yaml"),
        f"--tokenizer={tmp_path / 'no'}",
        f"--out={tmp_path / 'run'}",
    ]
    words += ["--loss_weights={pairs_text: 2.0, texts_cls: 0.5}"]
    code, _, err = call("pretrain", *words, "--batch_texts=0")
    assert code == 1 and "texts_cls is no loss of this run, because batch_texts=0" in err
    code, _, err = call("pretrain", *words)
    assert code == 1 and "loss_weights" not in err  # now the missing tokenizer is named
