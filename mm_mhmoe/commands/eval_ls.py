from __future__ import annotations

from mm_mhmoe_eval.kinds import KINDS
from mm_mhmoe_eval.tasks import list_tasks, load_task
from rich.console import Console
from rich.text import Text


def eval_ls(kind: str | None = None) -> None:
    """Lists the tasks that come with the package. A task of your own is a YAML file: docs/EVALUATION.md.

    Args:
        kind: only tasks of this kind.
    """
    if kind is not None and kind not in KINDS:
        raise ValueError(f"kind={kind} is not one of {', '.join(KINDS)}")
    console = Console(highlight=False)
    for task in (task for task in map(load_task, list_tasks()) if kind in (None, task.kind)):
        console.print(Text.assemble((task.name, "bold"), f"  version {task.version}, kind {task.kind}"))
        console.print(f"  {task.description}", soft_wrap=True)
        protocol = KINDS[task.kind].protocol
        facts = [("model", protocol.__name__)] if protocol else []
        for name, fact in [*facts, *task.data.items()]:
            console.print(Text.assemble((f"  {name}: ", "dim"), fact))
        console.print()
    console.print(
        "Paths start from --data_dir, without it from the shipped demo data. What a model must offer for a task is "
        "said in mm_mhmoe_eval/protocol.py.",
        style="dim",
    )
