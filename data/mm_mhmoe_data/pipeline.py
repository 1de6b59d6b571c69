"""Shards as a list of samples whose parts can be read in any order."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence, Set
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal

from torch import Tensor

from mm_mhmoe_data.pictures import decode_picture
from mm_mhmoe_data.shards import Shard, expand_shards
from mm_mhmoe_data.shards.index import IMAGE, IMAGE_EXTENSIONS, TEXT
from mm_mhmoe_data.shards.indexed import IndexedShards, SampleError
from mm_mhmoe_data.shards.places import join, parent, read_small

Parts = Literal["pairs", "images", "texts"]

Exclude = Mapping[str, Set[str]]

MAX_CAPTION_BYTES = 1 << 16
_NEEDS = {"pairs": IMAGE | TEXT, "images": IMAGE, "texts": TEXT}
_MAX_DECODED_BYTES = 1 << 28


class ShardDataset:
    """Samples of WebDataset shards (img2dataset layout: KEY.jpg, KEY.txt, KEY.json).

    Every shard is checked and indexed once, so that a broken one is found before training. Only indexes are kept; a
    sample is read from its offset in the shard, and a remote shard is fetched when that happens. Of a small set, the
    decoded pictures are kept as well: they would be decoded again in every epoch.

    Args:
        shards: what `expand_shards` takes (docs/SHARDS.md), or a list of files.
        parts: what a sample must have: a picture and a text that is not empty (pairs), or one of them. Others are not
            part of the set; `left_out` counts them.
        exclude: keys by the `place` of their shard, which are left out too; `excluded` counts them.

    Raises:
        ShardError: a shard is broken.
        RemoteError: a shard cannot be found or fetched.
        ValueError: no sample has these parts.
    """

    def __init__(
        self,
        shards: str | Path | Sequence[Path | Shard],
        parts: Parts = "pairs",
        exclude: Exclude = MappingProxyType({}),
    ) -> None:
        if isinstance(shards, (str, Path)):
            shards = expand_shards(shards)
        found = [s if isinstance(s, Shard) else Shard(str(s)) for s in shards]
        self._shards = IndexedShards(found, _NEEDS[parts], exclude=exclude)
        if not len(self):
            wanted = {"pairs": "a picture and a text", "images": "a picture", "texts": "a text"}[parts]
            raise ValueError(
                f"none of the {self.left_out} samples in {', '.join(map(str, found[:3]))}"
                f"{' ...' if len(found) > 3 else ''} has {wanted}"
                f"{f', beside {self.excluded} that are excluded' if self.excluded else ''}; look at them with "
                "`mm-mhmoe data stats`"
            )
        self._most_kept = _MAX_DECODED_BYTES // len(self)  # bytes of a picture: were all of this size, they would fit
        self._several: dict[str, bool] = {}
        self._decoded: dict[tuple[int, int, int | None], Tensor] = {}

    def __len__(self) -> int:
        return len(self._shards)

    @property
    def keys(self) -> Sequence[str]:
        """The key of every sample, looked up when asked for."""
        return self._shards.keys

    @property
    def counts(self) -> list[int]:
        """Samples of each shard."""
        return self._shards.counts.tolist()

    @property
    def left_out(self) -> int:
        """Samples in the shards that lack a part."""
        return self._shards.left_out

    @property
    def excluded(self) -> int:
        """Samples that have the parts and are left out because `exclude` names them."""
        return self._shards.excluded

    def place(self, index: int) -> tuple[str, int]:
        """Checksum (sha256) of a sample's shard, and its number among all samples of the shard, usable or not."""
        return self._shards.place(index)

    def used_shards(self) -> list[tuple[Shard, str]]:
        """The shards that this set has samples of, with their checksums (sha256)."""
        shards = zip(self._shards.shards, self._shards.checksums(), self.counts, strict=True)
        return [(shard, sha256) for shard, sha256, count in shards if count]

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_decoded": {}}

    @property
    def text_bytes(self) -> Sequence[int]:
        """The length of every text in bytes, looked up when asked for."""
        return _TextBytes(self._shards)

    def has_several_captions(self, index: int) -> bool:
        """Whether the lines of the text are captions of their own: CLIP_benchmark's retrieval sets say so."""
        root = parent(parent(self._shards.shard_of(index).location))
        if root not in self._several:
            self._several[root] = (read_small(join(root, "dataset_type.txt")) or b"").strip() == b"retrieval"
        return self._several[root]

    def caption(self, index: int, most: int = MAX_CAPTION_BYTES) -> str:
        """A sample's text, of at most so many bytes."""
        content = self._read(index, "txt", most)
        try:
            return content.decode("utf-8").strip()
        except UnicodeDecodeError as error:
            raise self._shards.error(index, f"has a caption that is not UTF-8 ({error.reason})", "text") from error

    @property
    def root(self) -> str:
        """The folder of the splits: that above the first shard's."""
        return parent(parent(self._shards.shards[0].place))

    def label(self, index: int, classes: int | None = None) -> int:
        """The whole number in the sample's .cls. Raises `SampleError` where there is none, or it is not one of
        `classes` numbers."""
        if "cls" not in self._shards.members(index):
            raise self._shards.error(index, "has no .cls with its label", "label")
        content = self._read(index, "cls", MAX_CAPTION_BYTES)
        if not content.strip().isdigit():
            raise self._shards.error(index, f"has {content[:20]!r} in its .cls instead of a whole number", "label")
        label = int(content)
        if classes is not None and label >= classes:
            raise self._shards.error(index, f"has class {label}, but there are {classes}", "label")
        return label

    def image_bytes(self, index: int, name: str = "") -> bytes:
        """The picture as it lies in the shard. Of several, KEY.left.png is named left."""
        return self._shards.read(index, *self._image_place(index, name))

    def picture(self, index: int, name: str = "", *, at_least: int | None = None) -> Tensor:
        """uint8 RGB (3, H, W). It may be given out again: do not write into it.

        Args:
            name: which one, where a sample has several.
            at_least: a large JPEG may come at half its size or less, as long as both sides have this many pixels.
        """
        return self.find_picture(index, name)(at_least)

    def find_picture(self, index: int, name: str = "") -> Callable[[int | None], Tensor]:
        """Looks up where a picture lies. What is returned reads and decodes it: `at_least` to the `picture`."""
        return partial(self._picture, index, *self._image_place(index, name))

    def _image_place(self, index: int, name: str) -> tuple[int, int]:
        members = self._shards.members(index)
        extensions = [f"{name}.{e}" for e in IMAGE_EXTENSIONS] if name else IMAGE_EXTENSIONS
        found = next((members[e] for e in extensions if e in members), None)
        if found is None:
            raise self._shards.error(index, f"has no picture {' or '.join(extensions)}", "decode")
        return found

    def _picture(self, index: int, offset: int, size: int, at_least: int | None) -> Tensor:
        if (index, offset, at_least) in self._decoded:
            return self._decoded[index, offset, at_least]
        content = self._shards.read(index, offset, size)
        try:
            picture = decode_picture(content, at_least=at_least)
        except ValueError as error:
            raise self._shards.error(index, f"cannot be used: {error}", "decode") from error
        if picture.nbytes <= self._most_kept:
            self._decoded[index, offset, at_least] = picture
        return picture

    def sample_bytes(self, index: int) -> bytes:
        """All members as they lie in the shard, in the order of their extensions."""
        members = self._shards.members(index)
        return b"".join(self._shards.read(index, *members[extension]) for extension in sorted(members))

    def sha256_of(self, error: SampleError) -> str | None:
        """SHA-256 of the members of the sample that an error is about; None where they cannot even be read."""
        try:
            return hashlib.sha256(self.sample_bytes(error.index)).hexdigest()
        except SampleError:
            return None

    def metadata(self, index: int) -> dict[str, Any]:
        """The sample's .json; empty where there is none."""
        if "json" not in self._shards.members(index):
            return {}
        try:
            content = json.loads(self._read(index, "json", MAX_CAPTION_BYTES))
        except (ValueError, RecursionError) as error:
            if isinstance(error, SampleError):
                raise
            raise self._shards.error(index, f"has a .json that cannot be read ({error})", "json") from error
        if not isinstance(content, dict):
            raise self._shards.error(
                index, f"has a .json that holds {type(content).__name__} instead of an object", "json"
            )
        return content

    def _read(self, index: int, extension: str, most: int) -> bytes:
        offset, size = self._shards.members(index)[extension]
        if size > most:
            raise self._shards.error(index, f"has a .{extension} of {size} bytes; at most {most} are read", "read")
        return self._shards.read(index, offset, size)


class _TextBytes(Sequence[int]):
    def __init__(self, shards: IndexedShards) -> None:
        self.shards = shards

    def __len__(self) -> int:
        return len(self.shards)

    def __getitem__(self, index: Any) -> Any:
        return self.shards.members(index)["txt"][1]
