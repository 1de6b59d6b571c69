"""What is kept of pictures to find them again: checksums of bytes and pixels, perceptual hashes, ids.

Legend: N pictures.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from mm_mhmoe_data.pictures import decode_picture
from mm_mhmoe_data.recipes.fingerprints import fingerprint_of, stack
from mm_mhmoe_data.shards import Shard
from mm_mhmoe_data.shards.index import IMAGE, IMAGE_EXTENSIONS
from mm_mhmoe_data.shards.indexed import IndexedShards

_DIGEST = 16
_MAX_JSON_BYTES = 1 << 16


@dataclass(kw_only=True, eq=False)
class Prints:
    """Pictures of shards.

    shards, shard_N: their files, and the number of each picture's.
    keys: of the samples. bytes_N, pixels_N: (N, 16) uint8, the begin of sha256.
    phash_N, dhash_N, thumb_N: as in `recipes.fingerprints`, thumbnails as uint8.
    ids: values of fields of the .json, as (field, value, picture).
    unreadable: pictures that cannot be decoded, which are not among the N.
    """

    shards: list[str]
    keys: list[str]
    shard_N: NDArray[np.int64]
    bytes_N: NDArray[np.uint8]
    pixels_N: NDArray[np.uint8]
    phash_N: NDArray[np.uint64]
    dhash_N: NDArray[np.uint64]
    thumb_N: NDArray[np.uint8]
    ids: list[tuple[str, str, int]] = field(default_factory=list)
    unreadable: int = 0

    def __len__(self) -> int:
        return len(self.keys)


def shard_prints(shard: Path, id_fields: Sequence[str] = ()) -> Prints:
    """Decodes all pictures of a shard. Raises `ShardError` if the shard cannot be trusted."""
    samples = IndexedShards([Shard(str(shard))], IMAGE)
    keys: list[str] = []
    of_bytes, of_pixels, prints, ids = [], [], [], []
    unreadable = 0
    for i in range(len(samples)):
        content = picture_bytes(samples, i)
        try:
            pixels = decode_picture(content).permute(1, 2, 0).contiguous().numpy()
        except ValueError:
            unreadable += 1
            continue
        shape = b"%d %d\n" % pixels.shape[:2]
        of_bytes.append(hashlib.sha256(content).digest()[:_DIGEST])
        of_pixels.append(hashlib.sha256(shape + pixels.tobytes()).digest()[:_DIGEST])
        prints.append(fingerprint_of(Image.fromarray(pixels)))
        ids += [(name, value, len(keys)) for name, value in _ids(samples, i, id_fields)]
        keys.append(samples.key(i))
    stacked = stack(prints)
    return Prints(
        shards=[str(shard)],
        keys=keys,
        shard_N=np.zeros(len(keys), np.int64),
        bytes_N=_digests(of_bytes),
        pixels_N=_digests(of_pixels),
        phash_N=stacked.phash,
        dhash_N=stacked.dhash,
        thumb_N=stacked.thumb.astype(np.uint8),
        ids=ids,
        unreadable=unreadable,
    )


def picture_bytes(samples: IndexedShards, index: int) -> bytes:
    """The picture as it lies in the shard."""
    members = samples.members(index)
    return samples.read(index, *members[next(name for name in IMAGE_EXTENSIONS if name in members)])


def joined(parts: Sequence[Prints]) -> Prints:
    """The pictures of several shards, one after the other."""
    counts = np.array([len(part) for part in parts], np.int64)
    begins = np.cumsum(counts) - counts
    arrays = {name: np.concatenate([getattr(part, name) for part in parts]) for name in _ARRAYS}
    return Prints(
        shards=[part.shards[0] for part in parts],
        keys=[key for part in parts for key in part.keys],
        shard_N=np.repeat(np.arange(len(parts)), counts),
        ids=[(name, value, i + int(at)) for part, at in zip(parts, begins, strict=True) for name, value, i in part.ids],
        unreadable=sum(part.unreadable for part in parts),
        **arrays,
    )


_ARRAYS = ("bytes_N", "pixels_N", "phash_N", "dhash_N", "thumb_N")


def save(prints: Prints, folder: Path) -> None:
    """As files whose arrays several processes can share."""
    for name in (*_ARRAYS, "shard_N"):
        np.save(folder / f"{name}.npy", getattr(prints, name))
    rest = {name: getattr(prints, name) for name in ("shards", "keys", "ids", "unreadable")}
    (folder / "rest.json").write_text(json.dumps(rest))


def load(folder: Path) -> Prints:
    """What `save` wrote. Arrays stay on disk until they are looked at."""
    arrays = {name: np.load(folder / f"{name}.npy", mmap_mode="r") for name in (*_ARRAYS, "shard_N")}
    rest = json.loads((folder / "rest.json").read_text())
    return Prints(**arrays, **{**rest, "ids": [tuple(one) for one in rest["ids"]]})


def _digests(parts: list[bytes]) -> NDArray[np.uint8]:
    return np.frombuffer(b"".join(parts), np.uint8).reshape(-1, _DIGEST)


def _ids(samples: IndexedShards, index: int, fields: Sequence[str]) -> list[tuple[str, str]]:
    """Values of the .json by field; a sample whose .json cannot be read has none."""
    place = samples.members(index).get("json")
    if not fields or place is None or place[1] > _MAX_JSON_BYTES:
        return []
    try:
        content: Any = json.loads(samples.read(index, *place))
    except (ValueError, RecursionError):
        return []
    found = [(name, content.get(name)) for name in fields] if isinstance(content, dict) else []
    return [(name, str(value)) for name, value in found if isinstance(value, (str, int)) and value != ""]
