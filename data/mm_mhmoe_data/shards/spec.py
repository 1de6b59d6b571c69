"""Which shards an option names."""

from __future__ import annotations

from glob import glob
from pathlib import Path

from braceexpand import braceexpand

from mm_mhmoe_data.shards.location import Shard


def expand_shards(spec: str | Path) -> list[Shard]:
    """The shards that `spec` names: a .tar, a directory, a glob, or a brace range; several joined by "::".

    Raises `ValueError` when a part names nothing, saying what was looked for.
    """
    found: list[Shard] = []
    for part in str(spec).split("::"):
        if not part:
            raise ValueError(f"shards={str(spec)!r} has an empty part. Remove the extra '::'.")
        for name in braceexpand(part, escape=False) if "{" in part else [part]:
            found.extend(_expand_one(name, part))
    return found


def _expand_one(name: str, spec: str) -> list[Shard]:
    path = Path(name).expanduser()
    if path.is_dir():
        shards = sorted(path.glob("*.tar"))
        looked_for = f"*.tar in the directory {path}"
    elif any(sign in name for sign in "*?["):
        shards = sorted(Path(match) for match in glob(str(path)) if match.endswith(".tar"))
        looked_for = f"files matching {name}"
    else:
        shards = [path] if path.is_file() else []
        looked_for = f"the file {name}"
    if not shards:
        raise ValueError(
            f"shards={spec!r} names no shard: looked for {looked_for}. "
            "Give a .tar, a directory of .tar files, a glob, or a range like 'train/{00000..00003}.tar'."
        )
    return [Shard(str(path)) for path in shards]
