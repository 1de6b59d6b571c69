"""Files that list shards: text, timm's `_info.json`, CLIP_benchmark's `nshards.txt`."""

from __future__ import annotations

import json
from typing import Any

from mm_mhmoe_data.shards.location import Shard, Stated
from mm_mhmoe_data.shards.places import files_in, join, parent, read_small

INFO_FILE = "_info.json"
COUNT_FILE = "nshards.txt"
_MOST_SHARDS = 10_000_000


def text_of(place: str) -> str:
    """A small text file. Raises `ValueError` if there is none or it is not UTF-8."""
    content = read_small(place)
    if content is None:
        raise ValueError(f"the list {place} does not exist. Check its name")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"the list {place} is not UTF-8 text ({error.reason}). Save it as UTF-8") from error


def listed_names(place: str) -> list[str]:
    """What the lines of a text file name, seen from its folder. Empty lines and comments (#) are passed over."""
    lines = [line.strip() for line in text_of(place).splitlines()]
    names = [line for line in lines if line and not line.startswith("#")]
    for name in names:
        if name.startswith(("pipe:", "@")) or "::" in name:
            raise ValueError(f"the list {place} has the line {name!r}; a line names files: no pipe:, no @list, no '::'")
    return [join(parent(place), name) for name in names]


def info_shards(place: str, split: str) -> list[Shard]:
    """The shards of a split as `_info.json` lists them, with their numbers of samples.

    Raises `ValueError` for a file that does not fit, and where the split is not named and there are several.
    """
    try:
        splits = json.loads(text_of(place))["splits"]
        entry = splits[_choice(place, sorted(splits), split)]
        files, lengths = entry["filenames"], entry.get("shard_lengths") or [None] * len(entry["filenames"])
        if not all(isinstance(file, str) for file in files) or not all(isinstance(n, int | None) for n in lengths):
            raise TypeError("names are strings, lengths are integers")
    except (KeyError, TypeError, AttributeError, json.JSONDecodeError) as error:
        raise ValueError(
            f"{place} is no list of shards ({type(error).__name__}: {error}); it needs "
            '{"splits": {"train": {"filenames": [...], "shard_lengths": [...]}}}'
        ) from error
    if len(files) != len(lengths):
        raise ValueError(f"{place}, split {split!r}: {len(files)} filenames but {len(lengths)} shard_lengths")
    folder = parent(place)
    return [
        Shard(_inside(place, folder, file), stated=_stated(n, place)) for file, n in zip(files, lengths, strict=True)
    ]


def numbered_shards(folder: str) -> list[Shard]:
    """0.tar to N-1.tar of a split in CLIP_benchmark's layout, N from `nshards.txt`.

    Raises `ValueError` if it holds no number, or (in a local folder) if there are more or fewer.
    """
    place = join(folder, COUNT_FILE)
    text = text_of(place).strip()
    if not text.isascii() or not text.isdigit() or not 0 < int(text) <= _MOST_SHARDS:
        raise ValueError(f"{place} holds {text[:40]!r} instead of the number of shards")
    shards = [Shard(join(folder, f"{number}.tar")) for number in range(int(text))]
    if not shards[0].is_remote:
        found = {name for name in files_in(folder) if name.endswith(".tar")}
        missing, more = sorted({s.location for s in shards} - found), sorted(found - {s.location for s in shards})
        if missing or more:
            what = f"{missing[0]} is missing" if missing else f"{more[0]} is not among them"
            raise ValueError(
                f"{place} says {text} shards but {folder} holds {len(found)} .tar files: {what}. "
                "Copy the split again or correct the number"
            )
    return shards


def _choice(place: str, known: list[str], split: str) -> str:
    if split in known:
        return split
    if not split and len(known) == 1:
        return known[0]
    what = f"has no split {split!r}" if split else "has several splits"
    raise ValueError(f"{place} {what}; name one as {parent(place)}#SPLIT: {', '.join(known)}")


def _inside(place: str, folder: str, file: str) -> str:
    if "://" in file or file.startswith(("/", "pipe:")) or ".." in file.split("/"):
        raise ValueError(
            f"{place} names {file!r}, which does not lie in its folder. Use a text list (@list.txt) for that"
        )
    return join(folder, file)


def _stated(samples: Any, place: str) -> Stated | None:
    return None if samples is None else Stated(samples, place)
