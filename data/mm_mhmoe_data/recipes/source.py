"""The unpacked Open Clip Art packages: which pictures there are, each made ready in a worker process."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath

from ..parallel import map_in_order
from .captions import Caption, CaptionRejected, count_keywords, make_caption
from .fingerprints import Fingerprint, fingerprint
from .packages import package_version
from .pictures import Picture, PictureRejected, render_picture
from .svg_metadata import MetadataRejected, SvgMetadata, read_svg_metadata
from .vocabulary import Folders, Glossary

PACKAGES = ("openclipart-png", "openclipart-svg")


@dataclass(frozen=True, kw_only=True)
class Source:
    """The two folders and the package versions ("unknown" where the changelog is missing)."""

    png: Path
    svg: Path
    versions: dict[str, str]


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """One usable picture with everything that is known about it; `path` is relative to the png folder."""

    path: str
    metadata: SvgMetadata
    caption: Caption
    picture: Picture
    print: Fingerprint


def find_source(root: Path) -> Source:
    """The source under `root`, the folder that both packages were unpacked into.

    Raises `ValueError` when the pictures are not there.
    """
    for base in (root / "usr/share/openclipart", root):
        if (base / "png").is_dir() and (base / "svg").is_dir():
            return Source(
                png=base / "png",
                svg=base / "svg",
                versions={package: package_version(root, package) for package in PACKAGES},
            )
    raise ValueError(
        f"root={str(root)!r} holds no Open Clip Art: looked for png and svg in usr/share/openclipart. "
        f"Run 'apt-get download {' '.join(PACKAGES)}', unpack each with 'dpkg-deb -x PACKAGE.deb ROOT', "
        "and give ROOT."
    )


def read_captions(source: Source, dropped: Counter[str]) -> dict[str, tuple[SvgMetadata, Caption]]:
    """Metadata and caption of every picture that has both and is in the public domain, sorted by path."""
    metadata: dict[str, SvgMetadata] = {}
    for png in sorted(source.png.rglob("*.png")):
        relative = png.relative_to(source.png)
        svg = source.svg / relative.with_suffix(".svg")
        if not svg.is_file():
            dropped["no SVG beside it"] += 1
            continue
        try:
            facts = read_svg_metadata(svg)
        except MetadataRejected:
            dropped["SVG not safe to read"] += 1
            continue
        if "publicdomain" not in facts.licence.lower().replace(" ", "").replace("-", ""):
            dropped["no public-domain statement of its own"] += 1
            continue
        metadata[relative.as_posix()] = facts
    glossary, folders, counts = Glossary.load(), Folders.load(), count_keywords(metadata.values())
    result = {}
    for path, facts in metadata.items():
        try:
            result[path] = (facts, make_caption(PurePosixPath(path), facts, glossary, folders, counts))
        except CaptionRejected as error:
            dropped[error.reason] += 1
    return result


def render_candidates(
    source: Source,
    captions: dict[str, tuple[SvgMetadata, Caption]],
    dropped: Counter[str],
    *,
    image_size: int,
    quality: int,
    workers: int | None,
    advance: Callable[[int], None],
) -> list[Candidate]:
    """Every caption with its picture, in the order of `captions` whatever the number of workers."""
    render = partial(_render, source.png, image_size, quality)
    candidates = []
    with closing(map_in_order(render, list(captions), workers, chunk=32)) as pictures:
        for path, made in zip(captions, pictures, strict=True):
            advance(1)
            if isinstance(made, str):
                dropped[made] += 1
                continue
            facts, caption = captions[path]
            candidates.append(Candidate(path=path, metadata=facts, caption=caption, picture=made[0], print=made[1]))
    return candidates


def _render(png: Path, image_size: int, quality: int, path: str) -> tuple[Picture, Fingerprint] | str:
    try:
        picture = render_picture(png / path, image_size=image_size, quality=quality, keep_white="/flags/" in path)
    except PictureRejected as error:
        return error.reason
    return picture, fingerprint(picture.content)
