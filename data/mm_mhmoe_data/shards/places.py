"""Files and folders by path or address, with the same few questions for both."""

from __future__ import annotations

from glob import glob
from pathlib import Path

from mm_mhmoe_data.shards import remote
from mm_mhmoe_data.shards.remote import is_remote


def join(folder: str, name: str) -> str:
    """A name as it is seen from a folder: addresses and absolute paths stay as they are."""
    if "://" in name:
        return name
    if is_remote(folder):
        return f"{folder.rstrip('/')}/{name.removeprefix('./')}"
    return str(Path(folder) / name)


def parent(place: str) -> str:
    return place.rstrip("/").rpartition("/")[0] if is_remote(place) else str(Path(place).parent)


def is_folder(place: str) -> bool:
    """For an address: by its name, without asking."""
    if is_remote(place):
        return not place.partition("?")[0].endswith((".tar", ".json", ".txt"))
    return Path(place).is_dir()


def read_small(place: str) -> bytes | None:
    """A list or an index; None where there is none."""
    if is_remote(place):
        return remote.read_small(place)
    try:
        return Path(place).read_bytes()
    except (FileNotFoundError, NotADirectoryError):
        return None


def files_in(folder: str) -> list[str]:
    if is_remote(folder):
        return remote.files_in(folder)
    return sorted(str(path) for path in Path(folder).iterdir())


def matches(pattern: str) -> list[str]:
    return remote.matches(pattern) if is_remote(pattern) else sorted(glob(pattern))
