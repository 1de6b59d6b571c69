"""Shards to time loaders on: small JPEGs with captions, made once from a folder of pictures."""

from __future__ import annotations

import io
import shutil
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import torch
from PIL import Image

from mm_mhmoe_data.pictures import decode_picture
from mm_mhmoe_data.shards import Sample, write_shards
from mm_mhmoe_data.transforms import EvalTransform

_EXTENSIONS = {".jpg", ".jpeg", ".png", ".webp"}
_QUALITY = 90
_PER_SHARD = 500


def make_bench_shards(pictures: Path, out: Path, *, count: int = 4000, side: int = 256) -> Path:
    """Writes up to `count` square JPEGs of `side` pixels to `out`; nothing is done if it is there already.

    A caption is the picture's file name. Pictures that cannot be decoded are passed over.

    Raises:
        ValueError: there is no picture below `pictures`.
    """
    if out.is_dir():
        return out
    if not pictures.is_dir():
        raise ValueError(f"pictures={pictures} is not a folder; give one that holds JPEG, PNG or WebP files")
    partial = out.with_name(f".{out.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    if not write_shards(islice(_samples(pictures, side), count), partial, 0, _PER_SHARD):
        raise ValueError(f"pictures={pictures} holds no JPEG, PNG or WebP file that can be decoded")
    partial.rename(out)
    return out


def _samples(pictures: Path, side: int) -> Iterator[Sample]:
    number, square = 0, EvalTransform(side)
    for path in sorted(p for p in pictures.rglob("*") if p.suffix.lower() in _EXTENSIONS):
        try:
            picture_CHW = decode_picture(path.read_bytes(), at_least=side)
        except (ValueError, OSError):
            continue
        if min(picture_CHW.shape[1:]) * 8 < max(picture_CHW.shape[1:]):  # a banner would grow beyond reason
            continue
        pixels_HWC = square(picture_CHW).permute(1, 2, 0).to(memory_format=torch.contiguous_format)
        out = io.BytesIO()
        Image.fromarray(pixels_HWC.numpy()).save(out, "JPEG", quality=_QUALITY)
        caption = " ".join(path.stem.replace("_", " ").replace("-", " ").split())
        yield Sample(key=f"{number:09d}", parts={"jpg": out.getvalue(), "txt": caption.encode(errors="replace")})
        number += 1
