"""The stamps of Tux Paint: pictures, each with a caption in English and in up to 77 languages."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from .plan import Dropped

PACKAGE = "tuxpaint-stamps-default"
_SCRIPTS = {"latin": "Latn", "valencia": "valencia"}


@dataclass(frozen=True, kw_only=True)
class Stamp:
    """One captioned picture; `path` and `picture` are relative to the stamps, `captions` go by language ("pt-BR")."""

    path: str
    picture: str
    captions: Mapping[str, str]
    noflip: bool

    @property
    def category(self) -> str:
        return self.path.rpartition("/")[0]


def find_stamps(root: Path) -> Path:
    """The folder of stamps under `root`. Raises `ValueError` when it is not there."""
    for folder in (root / "usr/share/tuxpaint/stamps", root):
        if (folder / "animals").is_dir():
            return folder
    raise ValueError(
        f"root={str(root)!r} holds no Tux Paint stamps: looked for usr/share/tuxpaint/stamps/animals. Run "
        f"'apt-get download {PACKAGE}', unpack it with 'dpkg-deb -x {PACKAGE}_*.deb ROOT', and give ROOT."
    )


def read_stamps(folder: Path, *, svg: bool) -> tuple[list[Stamp], list[Dropped]]:
    """Every captioned picture, sorted by path, and what has no caption or no picture.

    Where a stamp is there as PNG and as SVG, the PNG is taken; with `svg` false, SVG alone is not enough.
    """
    files = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    stamps, dropped = [], []
    for name in sorted(files):
        stem, _, extension = name.rpartition(".")
        if extension in ("png", "svg") and f"{stem}.txt" not in files:
            dropped.append(Dropped(reason="picture without a caption", what=name))
        if extension != "txt":
            continue
        picture = next((f"{stem}.{end}" for end in ("png", "svg") if f"{stem}.{end}" in files), None)
        if picture is None:
            dropped.append(Dropped(reason="caption without a picture", what=name))
        elif picture.endswith(".svg") and not svg:
            dropped.append(Dropped(reason="SVG drawing", what=picture))
        elif captions := read_captions(folder / name):
            stamps.append(
                Stamp(path=stem, picture=picture, captions=captions, noflip=_noflip(folder, f"{stem}.dat", files))
            )
        else:
            dropped.append(Dropped(reason="no English caption", what=name))
    return stamps, dropped


def read_captions(path: Path) -> dict[str, str]:
    """Captions by language: English from the first line, then `fr.utf8=...` lines; {} when the first is empty.

    Raises `ValueError` naming the file when it is not UTF-8.
    """
    try:
        first, *rest = path.read_text(encoding="utf-8").split("\n")
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is not UTF-8 (byte {error.start}). Unpack the package again.") from error
    if not first.strip():
        return {}
    captions = {"en": first.strip()}
    for line in rest:
        language, sign, text = line.partition(".utf8=")
        if sign and text.strip():
            captions[_language(language)] = text.strip()
    return captions


def _language(locale: str) -> str:
    """sr@latin is sr-Latn, pt_BR is pt-BR."""
    name, _, variant = locale.partition("@")
    return name.replace("_", "-") + (f"-{_SCRIPTS.get(variant, variant)}" if variant else "")


def _noflip(folder: Path, name: str, files: set[str]) -> bool:
    """Whether the stamp's data say that mirrored it would be wrong: letters, coins, one-way signs."""
    return name in files and "noflip" in (folder / name).read_text(encoding="utf-8", errors="replace").split()
