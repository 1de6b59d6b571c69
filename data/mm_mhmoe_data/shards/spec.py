"""Which shards an option names."""

from __future__ import annotations

from pathlib import Path

from braceexpand import braceexpand

from mm_mhmoe_data.shards.lists import COUNT_FILE, INFO_FILE, info_shards, listed_names, numbered_shards
from mm_mhmoe_data.shards.location import Shard
from mm_mhmoe_data.shards.places import files_in, is_folder, join, matches, read_small
from mm_mhmoe_data.shards.remote import is_remote

_FORMS = (
    "Give a .tar, a directory of .tar files, a glob, a range like 'train/{00000..00003}.tar', a list as @list.txt, or "
    "a folder and a split as folder#train."
)


def expand_shards(spec: str | Path, *, allow_pipe: bool = False) -> list[Shard]:
    """The shards that `spec` names, by paths or addresses; several joined by "::".

    Each part is a .tar, a directory, a glob, a brace range, `@list.txt` with one of these a line, or `folder#split`
    (`_info.json`, CLIP_benchmark). docs/SHARDS.md has all forms.

    Args:
        allow_pipe: also take `pipe:` and a shell command, whose output can be streamed.

    Raises:
        ValueError: a part names nothing (saying what was looked for), or a list is wrong.
    """
    found: list[Shard] = []
    for part in str(spec).split("::"):
        if not part:
            raise ValueError(f"shards={str(spec)!r} has an empty part. Remove the extra '::'.")
        names = listed_names(part[1:]) if part.startswith("@") else [part]
        found.extend(shard for name in names for one in _braces(name) for shard in _expand_one(one, part, allow_pipe))
        if not names:
            raise ValueError(f"shards={part!r}: the list names no shard")
    return found


def _braces(name: str) -> list[str]:
    if "{" not in name:
        return [name]
    try:
        return list(braceexpand(name, escape=False))
    except ValueError as error:
        raise ValueError(f"shards={name!r} has a brace that is not closed. {_FORMS}") from error


def _expand_one(name: str, spec: str, allow_pipe: bool) -> list[Shard]:
    if name.startswith("pipe:"):
        if not allow_pipe:
            raise ValueError(
                f"shards={spec!r} would run a shell command; it is taken only for streaming (mode='stream') with "
                "allow_pipe=True. Without it give the address of the shards"
            )
        return [Shard(name)]
    name = name.removeprefix("file://")
    remote = is_remote(name)
    if not remote:
        name = str(Path(name).expanduser())
    exists = not remote and Path(name).exists()
    if "#" in name and not exists:
        shards, looked_for = _split(*name.rsplit("#", 1))
    elif not exists and any(sign in name for sign in ("*" if remote else "*?[")):
        shards, looked_for = _tars(matches(name)), f"files matching {name}"
    elif is_folder(name):
        shards, looked_for = _folder(name)
    elif name.endswith(INFO_FILE):
        shards, looked_for = info_shards(name, ""), ""
    else:  # an address is asked when its index is looked for, many at a time
        shards, looked_for = [Shard(name)] if exists or remote else [], f"the file {name}"
    if not shards:
        raise ValueError(f"shards={spec!r} names no shard: looked for {looked_for}. {_FORMS}")
    return shards


def _folder(folder: str) -> tuple[list[Shard], str]:
    """What lies in it, by its own list if it has one; and what was looked for."""
    files = files_in(folder)
    if join(folder, INFO_FILE) in files:
        return info_shards(join(folder, INFO_FILE), ""), ""
    if join(folder, COUNT_FILE) in files:
        return numbered_shards(folder), ""
    return _tars(files), f"*.tar in the directory {folder}"


def _split(place: str, split: str) -> tuple[list[Shard], str]:
    """A split of `_info.json`, itself or in its folder, or of CLIP_benchmark's layout; and what was looked for."""
    info = place if place.endswith(INFO_FILE) else join(place, INFO_FILE)
    if read_small(info) is not None:
        return info_shards(info, split), ""
    if read_small(join(join(place, split), COUNT_FILE)) is not None:
        return numbered_shards(join(place, split)), ""
    return [], f"{info} and {join(join(place, split), COUNT_FILE)}"


def _tars(files: list[str]) -> list[Shard]:
    return [Shard(file) for file in files if file.endswith(".tar")]
