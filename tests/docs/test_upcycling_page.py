"""What docs/UPCYCLING.md shows is run."""

import re
import shlex
from pathlib import Path

from mm_mhmoe import cli
from mm_mhmoe.commands.parser import command_parser

PAGE = (Path(__file__).parents[2] / "docs" / "UPCYCLING.md").read_text()


def test_the_code_runs() -> None:
    (block,) = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    exec(compile(block, "UPCYCLING.md", "exec"), {})


def test_the_commands_parse() -> None:
    lines = [line for line in PAGE.splitlines() if line.startswith("mm-mhmoe upcycle ")]
    assert len(lines) == 5
    for line in lines:
        _, _, leaf, *options = shlex.split(line, comments=True)
        _, leaves = cli.COMMANDS["upcycle"]
        command_parser(cli.load(leaves[leaf]), f"upcycle {leaf}", "").parse_args(options)
