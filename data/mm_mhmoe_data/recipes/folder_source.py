"""What lies in a folder of pictures, and what a table or the folders say about them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from .hashed_split import Splitting
from .plan import Dropped
from .tables import read_table
from .unicode import encodable

PICTURES = (".jpg", ".jpeg", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff")
_SPLIT_FOLDERS = {"train": "train", "val": "val", "valid": "val", "validation": "val", "test": "test"}


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One sample to be: a picture ("" for texts only), its captions or its class ("" for none), its split."""

    picture: str
    captions: tuple[str, ...] = ()
    label: str = ""
    split: str


def read_captioned(
    table: Path, *, image_column: str, caption_column: str, split_column: str, splitting: Splitting
) -> tuple[list[Entry], list[Dropped]]:
    """Entries in the order of the table. Rows of one picture become one entry; a caption may be a list of captions.

    Without `image_column`, every row is a text. Raises `ValueError` for a table that cannot be read.
    """
    dropped: list[Dropped] = []
    captions: dict[str, list[str]] = {}
    splits: dict[str, str] = {}
    for where, row in read_table(table, [name for name in (image_column, caption_column, split_column) if name]):
        texts = _texts(row[caption_column])
        if not texts:
            dropped.append(Dropped(reason="no caption", what=where))
            continue
        name = _text(row[image_column]) if image_column else where
        if not name:
            dropped.append(Dropped(reason="no picture named", what=where))
            continue
        captions.setdefault(name, []).extend(texts)
        # texts are split by what they say: equal ones stay on one side
        split = _split(_text(row[split_column]), where) if split_column else ""
        split = split or splitting.of(name if image_column else texts[0])
        if splits.setdefault(name, split) != split:
            raise ValueError(f"{where}: {name!r} is in the splits {splits[name]} and {split}. Give it one of them.")
    entries = [
        Entry(picture=name if image_column else "", captions=tuple(texts), split=splits[name])
        for name, texts in captions.items()
    ]
    return entries, dropped


def read_classes(root: Path, splitting: Splitting) -> list[Entry]:
    """Pictures below `root` with the name of their folder as class, sorted by path.

    If all folders in `root` are called after splits (train, val, test), they are the splits.
    Raises `ValueError` when there are no pictures.
    """
    names = [path.relative_to(root).as_posix() for path in sorted(root.rglob("*")) if _is_picture(path)]
    if not names:
        raise ValueError(f"root={str(root)!r} holds no pictures: looked for {', '.join(PICTURES)} in all its folders.")
    folders = {PurePosixPath(name).parts[0] for name in names}
    split_folders = folders <= set(_SPLIT_FOLDERS)
    entries = []
    for name in names:
        first, *inner = PurePosixPath(name).parts
        label = "/".join(inner[:-1]) if split_folders else str(PurePosixPath(name).parent)
        entries.append(
            Entry(
                picture=name,
                label="" if label == "." else label,
                split=_SPLIT_FOLDERS[first] if split_folders else splitting.of(name),
            )
        )
    return entries


def _is_picture(path: Path) -> bool:
    return path.suffix.lower() in PICTURES and not path.name.startswith(".") and path.is_file()


def _texts(value: Any) -> list[str]:
    values: Sequence[Any] = value if isinstance(value, list) else [value]
    return [text for text in map(_text, values) if text]


def _text(value: Any) -> str:
    return "" if value is None else encodable(str(value)).strip()


def _split(name: str, where: str) -> str:
    if name and name.lower() not in _SPLIT_FOLDERS:
        raise ValueError(f"{where}: {name!r} is no split. Use train, val or test.")
    return _SPLIT_FOLDERS.get(name.lower(), "")
