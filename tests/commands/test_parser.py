"""Truth: what a reader of the error needs: the option, the value, and what would do."""

import pytest

from mm_mhmoe.commands.env import env
from mm_mhmoe.commands.parser import command_parser, spelt_out
from mm_mhmoe.commands.pretrain import pretrain
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
