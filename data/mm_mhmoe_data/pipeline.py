"""Shards as a list of samples that can be read in any order."""

from __future__ import annotations

import json
import os
import tarfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from torch import Tensor

from mm_mhmoe_data.pictures import decode_picture
from mm_mhmoe_data.shards import ShardError, check_shard, expand_shards, split_name

IMAGE_EXTENSIONS = ("jpg", "png", "jpeg", "webp")
MAX_CAPTION_BYTES = 1 << 16
_MAX_DECODED_BYTES = 1 << 28


class _Place(NamedTuple):
    """Where a member's bytes lie: number of the shard, offset and size in bytes."""

    shard: int
    offset: int
    size: int


class ShardDataset:
    """Picture-text pairs of WebDataset shards (img2dataset layout: KEY.jpg, KEY.txt, KEY.json).

    Every shard is checked and indexed once, when the set is made, so that a broken one is found before
    training. Only the index is kept; a sample is read from its offset in the shard. Of a small set, decoded pictures
    are kept as well: they would be decoded again in every epoch.

    Args:
        shards: a directory, a glob, a brace range of .tar files, or a list of files.

    Raises:
        ShardError: a shard is broken, or a sample has no picture or no text; names shard and sample.
    """

    def __init__(self, shards: str | Path | Sequence[Path]) -> None:
        self.shards = expand_shards(shards) if isinstance(shards, (str, Path)) else [Path(s) for s in shards]
        self.keys: list[str] = []
        self._places: list[dict[str, _Place]] = []
        self._files: dict[int, int] = {}
        self._decoded: dict[int, Tensor] = {}
        for number, path in enumerate(self.shards):
            check_shard(path)
            for key, members in _index(path, number).items():
                has_image = any(extension in members for extension in IMAGE_EXTENSIONS)
                if not has_image or "txt" not in members:
                    raise ShardError(path, f"sample {key} has no {'text' if has_image else 'picture'}")
                self.keys.append(key)
                self._places.append(members)

    def __len__(self) -> int:
        return len(self.keys)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_files": {}, "_decoded": {}}

    def __del__(self) -> None:
        for descriptor in getattr(self, "_files", {}).values():
            os.close(descriptor)

    def caption(self, index: int) -> str:
        if self._places[index]["txt"].size > MAX_CAPTION_BYTES:
            raise self._error(index, f"has a caption of more than {MAX_CAPTION_BYTES} bytes")
        try:
            return self._read(index, "txt").decode("utf-8").strip()
        except UnicodeDecodeError as error:
            raise self._error(index, f"has a caption that is not UTF-8 ({error.reason})") from error

    def image_bytes(self, index: int) -> bytes:
        """The picture as it lies in the shard."""
        return self._read(index, next(e for e in IMAGE_EXTENSIONS if e in self._places[index]))

    def picture(self, index: int) -> Tensor:
        """uint8 RGB (3, H, W). It may be given out again: do not write into it."""
        if index in self._decoded:
            return self._decoded[index]
        content = self.image_bytes(index)
        try:
            picture = decode_picture(content)
        except ValueError as error:
            raise self._error(index, f"cannot be used: {error}") from error
        if len(self) * picture.nbytes <= _MAX_DECODED_BYTES:  # were all of this size, they would fit
            self._decoded[index] = picture
        return picture

    def metadata(self, index: int) -> dict[str, Any]:
        """The sample's .json; empty where there is none."""
        if "json" not in self._places[index]:
            return {}
        try:
            content = json.loads(self._read(index, "json"))
        except ValueError as error:
            raise self._error(index, f"has a .json that cannot be read ({error})") from error
        if not isinstance(content, dict):
            raise self._error(index, f"has a .json that holds {type(content).__name__} instead of an object")
        return content

    def _error(self, index: int, problem: str) -> ShardError:
        return ShardError(self.shards[self._places[index]["txt"].shard], f"sample {self.keys[index]} {problem}")

    def _read(self, index: int, extension: str) -> bytes:
        number, offset, size = self._places[index][extension]
        if number not in self._files:
            self._files[number] = os.open(self.shards[number], os.O_RDONLY)
        # pread has no file position, which forked data workers would share.
        content = os.pread(self._files[number], size, offset)
        if len(content) != size:
            raise self._error(index, "is cut short: the shard was changed while it was read")
        return content


def _index(path: Path, number: int) -> dict[str, dict[str, _Place]]:
    """Members by key and extension, of a shard that was checked."""
    places: dict[str, dict[str, _Place]] = {}
    with tarfile.open(path, "r:") as archive:
        for member in archive:
            key, extension = split_name(member.name)
            places.setdefault(key, {})[extension] = _Place(number, member.offset_data, member.size)
    return places
