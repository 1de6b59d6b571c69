"""Parts of loading in one thread, done in several ways. Each callable is one pass over its inputs."""

from __future__ import annotations

import hashlib
import io
import tarfile
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import webdataset as wds
from PIL import Image
from torch import Tensor
from torchvision.io import ImageReadMode, decode_jpeg
from torchvision.transforms import Normalize, ToTensor

from mm_mhmoe_data.pictures import decode_picture
from mm_mhmoe_data.shards import iter_samples
from mm_mhmoe_data.shards.index import build_index, index_of
from mm_mhmoe_data.shards.walk import Scan, Walked
from mm_mhmoe_data.transforms import resize

BYTES = "bytes alone"
_JPEG = b"\xff\xd8\xff"
_CHUNK = 8 << 20


def picture_bytes(shards: Sequence[Path]) -> list[bytes]:
    """Every picture of the shards, as it lies there."""
    kinds = ("jpg", "png", "jpeg", "webp")
    return [
        next(sample.parts[kind] for kind in kinds if kind in sample.parts)
        for shard in shards
        for sample in iter_samples(shard)
    ]


def readers(shards: Sequence[Path]) -> Mapping[str, Callable[[], None]]:
    """Ways to read all members of shards, undecoded."""

    def by_webdataset() -> None:
        for _ in wds.WebDataset([str(shard) for shard in shards], shardshuffle=False):
            pass

    def by_tarfile() -> None:
        for shard in shards:
            with tarfile.open(shard) as archive:
                for member in archive:
                    file = archive.extractfile(member)
                    assert file is not None
                    file.read()

    def by_header_walk() -> None:
        for shard in shards:
            for _ in iter_samples(shard):
                pass

    return {"webdataset": by_webdataset, "tarfile": by_tarfile, "checked header walk (ours)": by_header_walk}


def indexers(shards: Sequence[Path]) -> Mapping[str, Callable[[], None]]:
    """Making the index of shards, beside what of it is reading and SHA-256 alone."""

    def each_chunk(use: Callable[[bytes], Any]) -> None:
        for shard in shards:
            with shard.open("rb", buffering=0) as file:
                while chunk := file.read(_CHUNK):
                    use(chunk)

    def bytes_alone() -> None:
        each_chunk(len)

    def sha256_alone() -> None:
        each_chunk(hashlib.sha256().update)

    def without_sha256() -> None:
        for shard in shards:
            size = shard.stat().st_size
            with shard.open("rb", buffering=0) as file:
                scan = Scan(shard, file, size)
                scan.run()
            index_of(shard, Walked(scan.members, size, 0, ""))

    def index() -> None:
        for shard in shards:
            build_index(shard)

    return {BYTES: bytes_alone, "SHA-256 alone": sha256_alone, "index, no SHA-256": without_sha256, "index": index}


def decoders(contents: Sequence[bytes]) -> Mapping[str, Callable[[], None]]:
    """Ways to decode pictures; those that know only JPEG are absent if there are others."""

    def each(decode: Callable[[bytes], Any]) -> Callable[[], None]:
        def all_of_them() -> None:
            for content in contents:
                decode(content)

        return all_of_them

    ways = {"decode_picture (ours)": each(decode_picture), "PIL": each(decode_by_pil)}
    if all(content.startswith(_JPEG) for content in contents):
        ways["torchvision"] = each(_by_torchvision)
    return ways


def decode_by_pil(content: bytes) -> np.ndarray:
    with Image.open(io.BytesIO(content)) as image:
        return np.asarray(image if image.mode == "RGB" else image.convert("RGB"))


def _by_torchvision(content: bytes) -> Tensor:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that it is deprecated is said in the table
        return decode_jpeg(torch.frombuffer(bytearray(content), dtype=torch.uint8), mode=ImageReadMode.RGB)


def resizers(contents: Sequence[bytes], size: int) -> Mapping[str, Callable[[], None]]:
    """Ways to resize a centre crop of nine tenths of a picture to size x size, bicubic and antialiased."""
    crops = []
    for content in contents:
        picture_CHW = decode_picture(content)
        height, width = (round(0.95 * side) for side in picture_CHW.shape[1:])
        crops.append(picture_CHW[:, :height, :width])
    planes = [crop.contiguous() for crop in crops]
    images = [Image.fromarray(crop.permute(1, 2, 0).contiguous().numpy()) for crop in crops]
    normalise, to_tensor = Normalize([0.5] * 3, [0.5] * 3), ToTensor()

    def ours() -> None:
        for crop in crops:
            resize(crop, size, size, "bicubic")

    def from_planes() -> None:
        for crop in planes:
            resize(crop, size, size, "bicubic")

    def by_pil() -> None:
        for image in images:
            image.resize((size, size), Image.Resampling.BICUBIC)

    def by_pil_to_floats() -> None:
        for image in images:
            normalise(to_tensor(image.resize((size, size), Image.Resampling.BICUBIC)))

    return {
        "torch uint8, channels last (ours)": ours,
        "torch uint8, planes": from_planes,
        "PIL": by_pil,
        "PIL, then normalised floats": by_pil_to_floats,
    }
