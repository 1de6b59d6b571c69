from __future__ import annotations

import importlib.metadata
import os
import platform
from pathlib import Path

import torch
from mm_mhmoe_eval.results import git_hash
from rich.console import Console
from rich.table import Table

from mm_mhmoe import __version__
from mm_mhmoe.process import switches
from mm_mhmoe.training.trainer import choose_precision

PACKAGES = (
    "torch", "torchvision", "lightning", "timm", "open_clip_torch", "webdataset", "jsonargparse", "sentencepiece",
    "safetensors", "numpy", "pillow",
)  # fmt: skip


def environment() -> dict[str, str]:
    """Versions and hardware."""
    found = {
        "mm-mhmoe": __version__,
        "git": git_hash(Path(__file__).parent) or "not a checkout",
        "python": platform.python_version(),
    }
    found["system"] = f"{platform.system()} {platform.machine()}"
    for name in PACKAGES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            found[name] = "missing"
    found["CPU cores"] = str(os.cpu_count())
    found["CPU instructions"] = torch.backends.cpu.get_cpu_capability()
    found["torch threads"] = str(torch.get_num_threads())
    gpus = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    found["GPUs"] = ", ".join(gpus) or "none"
    found["process switches"] = switches()
    found["precision (auto)"] = choose_precision("auto", "auto")
    return found


def env() -> None:
    """Shows versions and hardware."""
    table = Table(show_header=False, box=None)
    for name, value in environment().items():
        table.add_row(f"[bold]{name}", value)
    Console().print(table)
