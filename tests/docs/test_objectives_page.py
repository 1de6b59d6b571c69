"""What docs/OBJECTIVES.md says that losses cost is what `plan` counts."""

from __future__ import annotations

import re
from pathlib import Path

from mm_mhmoe.analysis.arithmetic import Arithmetic
from mm_mhmoe.analysis.plan import Plan, make_plan
from mm_mhmoe.analysis.workload import PatchTarget, Workload
from mm_mhmoe.config import EncoderConfig

PAGE = (Path(__file__).parents[2] / "docs" / "OBJECTIVES.md").read_text(encoding="utf-8")
ROWS = re.findall(r"^\| (`.+_loss`) \| x (\S+) \| x (\S+) \|$", PAGE, re.MULTILINE)


def planned(*losses: str) -> Plan:
    work = Workload(batch_images=32, batch_texts=32, batch_pairs=32, **dict.fromkeys(losses, True))
    arithmetic = Arithmetic(precision="bf16-mixed", device="cuda")
    return make_plan(EncoderConfig(), work, arithmetic=arithmetic, target=PatchTarget(outputs=8192))


def test_what_losses_cost() -> None:
    assert len(ROWS) == 4
    masks = planned()
    for names, flops, kept in ROWS:
        made = planned(*re.findall("`(.+?)`", names))
        assert flops == f"{made.step.training / masks.step.training:.2f}", names
        assert kept == f"{made.kept.total / masks.kept.total:.2f}", names
