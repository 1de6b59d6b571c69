"""What docs/SIZING.md shows is what the commands print and its code computes; its tables are what the tests of the
counted models allow (tests/analysis/test_parameters.py)."""

from __future__ import annotations

import contextlib
import io
import re
import runpy
from pathlib import Path

import pytest

from mm_mhmoe import cli

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "SIZING.md").read_text(encoding="utf-8")
SHOWN = re.findall(r"```text\n\$ mm-mhmoe (.*?)\n(.*?)```", PAGE, re.DOTALL)


def test_there_are_examples() -> None:
    assert {words.split()[0] for words, _ in SHOWN} == {"plan", "parity"}


@pytest.mark.parametrize(("words", "shown"), SHOWN, ids=[words.split()[0] for words, _ in SHOWN])
def test_commands_print_what_the_page_shows(monkeypatch, capsys, words: str, shown: str) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    cli.run(words.split())
    printed = [line.rstrip() for line in capsys.readouterr().out.strip("\n").splitlines()]
    assert printed == shown.rstrip("\n").splitlines()


def test_what_activation_checkpointing_changes(monkeypatch, capsys) -> None:
    """Of the run that the page shows."""
    (words,) = [words for words, _ in SHOWN if words.startswith("plan")]
    (told,) = re.findall(r"keeps (.+?) in place of\s+(.+?), for (\d+) in place of (\d+) TFLOPs", PAGE)
    found = []
    for more in ("--activation_checkpointing blocks", ""):
        cli.run([*words.split(), *more.split()])
        out = capsys.readouterr().out
        found += re.findall(r"kept for backward +(.+B)", out) + re.findall(r"on all devices +(\d+) T", out)
    assert told == (found[0], found[2], found[1], found[3])


def test_code_prints_what_its_comments_say() -> None:
    (code,) = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        exec(compile(code, "SIZING.md", "exec"), {})
    assert out.getvalue().splitlines() == re.findall(r"print\(.*\)  # (.*)", code)


def rows(heading: str) -> list[list[str]]:
    """The cells of the table under a bold heading, its head left out."""
    table = PAGE[PAGE.index(heading) :].split("\n\n")[1]
    return [[cell.strip().replace(",", "") for cell in line.strip("|").split("|")] for line in table.splitlines()[2:]]


def test_tables_of_parameter_counts() -> None:
    counted = runpy.run_path(str(ROOT / "tests" / "analysis" / "test_parameters.py"))
    for experts, x_paper, x_here, mh_paper, mh_here, more in rows("**English language models**"):
        if experts == "none":
            assert float(x_here) == round(sum(counted["language_model"]("dense", 8)), 1)
            continue
        x, mh = (sum(counted["language_model"](ffn, int(experts))) for ffn in ("moe", "mh_moe"))
        paper = counted["ENGLISH"][int(experts)]
        assert (int(x_paper), int(mh_paper), float(x_here), float(mh_here)) == (*paper, round(x, 1), round(mh, 1))
        assert more == f"{mh / paper[1] - 1:.1%}".replace("%", " %")
    for experts, x_paper, x_here, x_off, mh_paper, mh_here, mh_off in rows("**Masked multi-modal models**"):
        if experts == "none":
            assert float(x_here) == round(counted["multi_modal"]("dense", 8), 1)
            continue
        paper = counted["MULTI_MODAL"][int(experts)]
        for ffn, given, said, here, off in (
            ("moe", paper[0], x_paper, x_here, x_off),
            ("mh_moe", paper[1], mh_paper, mh_here, mh_off),
        ):
            value = counted["multi_modal"](ffn, int(experts))
            assert (int(said), float(here)) == (given, round(value, 1))
            assert off == f"{value / given - 1:+.1%}".replace("%", " %")
