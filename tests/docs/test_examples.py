"""What the documentation shows is run."""

import re
import runpy
import shlex
from pathlib import Path

import pytest

from mm_mhmoe import cli
from mm_mhmoe.commands.parser import command_parser

ROOT = Path(__file__).parents[2]


def test_mh_moe_in_a_timm_vit_learns(capsys: pytest.CaptureFixture[str]) -> None:
    losses = runpy.run_path(str(ROOT / "docs" / "examples" / "timm_vit.py"))["main"](steps=6)
    assert losses[-1] < 0.7 * losses[0]
    assert capsys.readouterr().out.count("balance") == 6


def test_commands_of_the_analysis_page_parse() -> None:
    blocks = re.findall(r"```\n(mm-mhmoe .*?)```", (ROOT / "docs" / "ANALYSIS.md").read_text(), re.DOTALL)
    assert len(blocks) >= 2
    for block in blocks:
        words = shlex.split(block.replace("\\\n", " "))
        parser = command_parser(cli.load(cli.COMMANDS[words[1]]), words[1], "")  # type: ignore[arg-type]
        assert parser.parse_args(words[2:]).out is not None


@pytest.mark.parametrize("page", ["README.md", "docs/MHMOE.md"])
def test_code_in_pages_about_the_layer_runs(page: str) -> None:
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / page).read_text(), re.DOTALL)
    about_the_layer = [block for block in blocks if "mm_mhmoe.nn" in block]
    assert about_the_layer
    for block in about_the_layer:
        exec(compile(block, page, "exec"), {})
