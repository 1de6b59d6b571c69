"""Names for shipped files: `demo:train` is the demo data's training split, `demo/x.yaml` a shipped configuration."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path

import mm_mhmoe


def data_path(source: str) -> str:
    """`demo:PART` as the path of the shipped data; anything else as it is."""
    if not source.startswith("demo:"):
        return source
    root = Path(str(files("mm_mhmoe_data"))) / "demo"
    path = root / source.removeprefix("demo:")
    if not path.exists():
        known = ", ".join(f"demo:{p.name}" for p in sorted(root.iterdir()) if p.is_dir()) if root.is_dir() else "none"
        raise ValueError(f"{source} is not part of the demo data; known are {known}")
    return str(path)


def config_path(name: str) -> Path:
    """A shipped configuration: inside an installed package, or beside it in a checkout."""
    package = Path(mm_mhmoe.__file__).parent
    for root in (package / "configs", package.parent / "configs"):
        if (root / name).is_file():
            return root / name
    raise ValueError(f"configuration {name} is not shipped; see the files in configs/")
