"""Truth: the exit codes of cli.main's docstring; the shipped YAML files; argparse's habit of naming what is wrong."""

from __future__ import annotations

import inspect
import re
from pathlib import Path

import pytest
import yaml
from lightning.fabric.utilities.rank_zero import rank_zero_only

from mm_mhmoe import __version__, cli
from mm_mhmoe.commands.parser import command_parser
from mm_mhmoe.commands.sources import config_path
from mm_mhmoe.training.interrupted import RunFailed

ROOT = Path(__file__).parents[1]
CONFIGS = sorted((ROOT / "configs").rglob("*.yaml"))


def leaves(tree=cli.COMMANDS, path: str = "") -> dict[str, str]:
    """Every command's words and its module:function."""
    found = {}
    for name, node in tree.items():
        full = f"{path} {name}".strip()
        found |= {full: node} if isinstance(node, str) else leaves(node[1], full)
    return found


LEAVES = leaves()


def command_of(config: Path) -> str:
    """The words of the command in the comment that opens a configuration."""
    found = re.search(r"^#\s+mm-mhmoe ((?:[a-z0-9]+ )+)--config (\S+)", config.read_text(), re.MULTILINE)
    assert found is not None, f"{config} does not say which command runs it"
    assert ROOT / found.group(2) == config
    return found.group(1).strip()


def test_there_are_configurations() -> None:
    assert len(CONFIGS) >= 5


@pytest.mark.parametrize("config", CONFIGS, ids=lambda path: str(path.relative_to(ROOT)))
def test_configuration_parses_with_the_command_it_names(config: Path) -> None:
    assert config.read_text().startswith("# ")
    name = command_of(config)
    parser = command_parser(cli.load(LEAVES[name]), name, "")
    parsed = parser.instantiate_classes(parser.parse_args([f"--config={config}"]))
    for key, value in yaml.safe_load(config.read_text()).items():
        if not isinstance(value, dict):
            assert str(parsed[key]) == str(value)


@pytest.mark.parametrize("config", CONFIGS, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_misspelt_key_is_a_usage_error(call, config: Path, tmp_path: Path) -> None:
    broken = tmp_path / "broken.yaml"
    broken.write_text(config.read_text() + "\nstepz: 3\n")
    code, _, err = call(*command_of(config).split(), "--config", broken)
    assert code == 2 and "stepz" in err


def test_a_misspelt_inner_key_is_a_usage_error(call, tmp_path: Path) -> None:
    broken = tmp_path / "broken.yaml"
    broken.write_text(config_path("demo/pretrain.yaml").read_text().replace("top_k:", "topk:"))
    code, _, err = call("pretrain", "--config", broken)
    assert code == 2 and "topk" in err


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (["pretrain", "--stepz", "3"], "stepz"),
        (["pretrain", "--encoder.dimm", "3"], "dimm"),
        (["env", "--all"], "all"),
        (["pretrain", "--steps", "many"], "steps"),
        (["pretrain", "--encoder.ffn", "sparse"], "ffn"),
        (["pretrian"], "pretrian"),
        (["finetune", "caption"], "caption"),
        (["pretrain", "--config", "/nowhere.yaml"], "nowhere"),
        (["data", "build", "laion"], "laion"),
    ],
)
def test_usage_errors(call, words: list[str], named: str) -> None:
    code, _, err = call(*words)
    message = err[err.index("error: ") :]
    assert code == 2 and named in message
    assert len(err.splitlines()) < 12  # the message stays in sight


def test_an_abbreviation_is_a_usage_error(call) -> None:
    """argparse would take --batch_image for --batch_images, and nothing else is wrong here."""
    words = ["pretrain", "--config", config_path("demo/pretrain.yaml"), "--batch_image", "3", "--print_config"]
    code, _, err = call(*words)
    assert code == 2 and "unrecognized arguments: --batch_image" in err


@pytest.mark.parametrize("words", [[], ["data"], ["data", "build"], ["finetune"]])
def test_a_missing_command_is_a_usage_error(call, words: list[str]) -> None:
    code, _, err = call(*words)
    assert code == 2 and "command" in err.lower()


def test_a_value_that_the_configuration_refuses_is_named(call) -> None:
    code, _, err = call("pretrain", "--config", config_path("demo/pretrain.yaml"), "--encoder.moe.top_k", "9")
    assert code in (1, 2) and "moe.top_k=9" in err and "moe.num_experts=8" in err


def test_version(call) -> None:
    assert call("--version")[:2] == (0, f"mm-mhmoe {__version__}\n")


def test_help_names_every_command(call) -> None:
    code, out, _ = call("--help")
    assert code == 0 and all(name in out for name in cli.COMMANDS)
    assert LEAVES.keys() == cli.SUMMARIES.keys()


@pytest.mark.parametrize("name", LEAVES)
def test_help_explains_every_option(call, name: str) -> None:
    code, out, _ = call(*name.split(), "--help")
    assert code == 0
    assert all(word in " ".join(out.split()) for word in cli.SUMMARIES[name].split())
    for option in inspect.signature(cli.load(LEAVES[name])).parameters:
        assert re.search(rf"--{option}\b", out), f"{name} --help does not name --{option}"
    parser = command_parser(cli.load(LEAVES[name]), name, "")
    for action in parser._actions:
        if action.option_strings and not any(s.endswith((".help", "--help")) for s in action.option_strings):
            assert action.help and len(str(action.help)) > 3, f"{name}: {action.option_strings} has no help"


@pytest.mark.parametrize("config", CONFIGS, ids=lambda path: str(path.relative_to(ROOT)))
def test_printed_configuration_parses_back(call, config: Path, tmp_path: Path) -> None:
    words = command_of(config).split()
    code, out, _ = call(*words, "--config", config, "--print_config")
    assert code == 0
    again = tmp_path / "printed.yaml"
    again.write_text(out)
    parser = command_parser(cli.load(LEAVES[command_of(config)]), "", "")
    first, second = (parser.parse_args([f"--config={path}"]) for path in (config, again))
    first.pop("config")
    second.pop("config")
    assert first == second


def test_env(call) -> None:
    code, out, _ = call("env")
    assert code == 0 and __version__ in out and "torch" in out


@pytest.mark.parametrize(("rank", "spoken"), [(0, 1), (1, 0)])
def test_what_ends_all_processes_is_said_by_the_first(call, monkeypatch, rank: int, spoken: int) -> None:
    def fail() -> None:
        raise RunFailed("step 3 is not finite")

    monkeypatch.setattr(rank_zero_only, "rank", rank, raising=False)
    monkeypatch.setattr(cli, "run", lambda words: fail())
    code, _, err = call("pretrain")
    assert (code, err.count("step 3 is not finite")) == (spoken, spoken)
