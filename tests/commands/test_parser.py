"""Truth: what a reader of the error needs: the option, the value, and what would do."""

from pathlib import Path

import pytest

from mm_mhmoe.commands.env import env
from mm_mhmoe.commands.finetune import nlvr2, retrieval
from mm_mhmoe.commands.parser import command_parser, spelt_out
from mm_mhmoe.commands.pretrain import pretrain
from mm_mhmoe.commands.sources import config_path
from mm_mhmoe.config import MoEConfig


def command(steps: int = 1, moe: MoEConfig | None = None) -> None:
    """A command.

    Args:
        steps: how many.
        moe: may be absent.
    """


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (["--moe.router=best"], ["moe", "router", "best", "sigmoid_bias"]),
        (["--moe.topk=3"], ["moe", "topk"]),
        (["--steps=many"], ["steps", "many", "int"]),
    ],
)
def test_errors_of_options_that_may_be_absent_are_short(capsys, words: list[str], named: list[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        command_parser(command, "command", "").parse_args(words)
    told = capsys.readouterr().err
    assert stop.value.code == 2 and all(name in told for name in named)
    assert "NoneType" not in told and "NestedArg" not in told


@pytest.mark.parametrize(
    ("short", "long"),
    [
        ("--fast_dev_run --steps 3", "--run.fast_dev_run=true --steps 3"),
        ("--steps 3 --fast_dev_run", "--steps 3 --run.fast_dev_run=true"),
        ("--fast_dev_run=false", "--run.fast_dev_run=false"),
        ("--fast_dev_run false --resume never", "--run.fast_dev_run false --run.resume never"),
        ("--resume=x.ckpt --fast_dev_runs", "--run.resume=x.ckpt --fast_dev_runs"),
    ],
)
def test_short_forms_of_training_commands(short: str, long: str) -> None:
    assert spelt_out(short.split(), pretrain) == long.split()
    assert spelt_out(short.split(), env) == short.split()


@pytest.mark.parametrize("command", [retrieval, nlvr2])
def test_an_encoder_of_its_own_file_wins_over_the_configurations(command, tmp_path: Path) -> None:
    """Also where the encoder may be absent, as in fine-tuning."""
    (tmp_path / "encoder.yaml").write_text("{dim: 64, depth: 2, num_heads: 2, ffn: dense, vision: {image_size: 32}}")
    given = [f"--encoder={tmp_path / 'encoder.yaml'}", "--encoder.depth=3"]
    config = config_path(f"demo/finetune_{command.__name__}.yaml")
    for words in (given, [f"--config={config}", *given]):
        needed = [] if len(words) > 2 else ["--out=o", "--tokenizer=t", "--steps=1", "--optim.lr=1e-3"]
        parser = command_parser(command, "x", "")
        encoder = parser.instantiate_classes(parser.parse_args([*words, *needed])).encoder
        assert (encoder.dim, encoder.depth, encoder.ffn, encoder.vision.image_size) == (64, 3, "dense", 32)
