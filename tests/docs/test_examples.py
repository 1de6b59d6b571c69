"""What the documentation shows is run."""

import re
import runpy
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def test_mh_moe_in_a_timm_vit_learns(capsys: pytest.CaptureFixture[str]) -> None:
    losses = runpy.run_path(str(ROOT / "docs" / "examples" / "timm_vit.py"))["main"](steps=6)
    assert losses[-1] < 0.7 * losses[0]
    assert capsys.readouterr().out.count("balance") == 6


@pytest.mark.parametrize("page", ["README.md", "docs/MHMOE.md"])
def test_code_in_pages_about_the_layer_runs(page: str) -> None:
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / page).read_text(), re.DOTALL)
    about_the_layer = [block for block in blocks if "mm_mhmoe.nn" in block]
    assert about_the_layer
    for block in about_the_layer:
        exec(compile(block, page, "exec"), {})
