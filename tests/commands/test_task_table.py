"""The plan behind the table of tasks. What its steps do is tested where they are defined."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from mm_mhmoe_eval.tasks import load_task

from mm_mhmoe.commands import steps, task_table
from mm_mhmoe.commands.parser import configured

Call = tuple[str, dict[str, Any]]


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[Call]:
    """What the plan's steps call, with which arguments; the arguments are parsed as they are for real."""
    made: list[Call] = []

    def recorded(function: Callable[..., None], config: Path, **changes: Any) -> dict[str, Any]:
        made.append((function.__name__, configured(function, config, **changes)))
        raise InterruptedError

    for module in (steps, task_table):
        monkeypatch.setattr(module, "configured", recorded)
    monkeypatch.setattr(steps, "evaluate_model", lambda **arguments: made.append(("eval", arguments)))
    return made


def test_both_rows_have_the_same_steps_but_for_their_ffn(calls: list[Call], tmp_path: Path) -> None:
    plan = task_table._plan(tmp_path / "stamps", tmp_path / "runs", [0, 1])
    marks = [done for _, done, _ in plan]
    assert len(set(marks)) == len(marks)
    for _, _, work in plan:
        with contextlib.suppress(InterruptedError):
            work()
    assert len(calls) == len(plan)
    rows: dict[str, list[Call]] = {row: [] for row in task_table.ROWS}
    for name, arguments in calls:
        place = str(arguments.get("output_path") or arguments["out"])
        for row in rows:
            if f"/seed_1/{row}/" in place:
                rows[row].append((name, arguments))
    for (name, ours), (other, theirs) in zip(rows["mh_moe"], rows["dense"], strict=True):
        assert name == other
        if name != "eval" and ours["encoder"] is not None:
            assert (ours["encoder"].ffn, theirs["encoder"].ffn) == ("mh_moe", "dense")
            assert ours["encoder"].text == theirs["encoder"].text
        assert str(ours).replace("/mh_moe/", "/dense/").replace("ffn='mh_moe'", "ffn='dense'") == str(theirs)
    scored = {arguments["tasks"][0] for name, arguments in calls if name == "eval"}
    kinds = {load_task(task).kind for task in scored}
    assert kinds == {
        "retrieval", "multilingual_retrieval", "vqa", "nlvr2", "captioning", "classification", "probe",
        "zero_shot", "masked",
    }  # fmt: skip


def test_stamps_that_are_not_there_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="has no train/; make it with: mm-mhmoe data build tuxpaint"):
        task_table.task_table(tmp_path, tmp_path / "out")
