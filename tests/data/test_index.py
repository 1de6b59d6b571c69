"""Truth: the standard library's tarfile, and damage done byte by byte."""

from __future__ import annotations

import os
import tarfile
import time
from pathlib import Path

import numpy as np
import pytest
from mm_mhmoe_data.shards import Sample, Shard, ShardError, expand_shards, write_shards
from mm_mhmoe_data.shards.index import IMAGE, TEXT, ShardIndex, build_index
from mm_mhmoe_data.shards.index_file import IndexFileError, read_header, read_index, write_index
from mm_mhmoe_data.shards.index_store import find_index, index_path, index_shards
from mm_mhmoe_data.shards.indexed import IndexedShards


@pytest.fixture
def shard(shards: Path) -> Path:
    return shards / "00001.tar"


def test_members_are_those_of_tarfile(shard: Path) -> None:
    index = build_index(shard)
    ours = {
        f"{index.key(i)}.{extension}": place for i in range(len(index)) for extension, place in index.members(i).items()
    }
    with tarfile.open(shard) as tar:
        assert ours == {member.name: (member.offset_data, member.size) for member in tar}


@pytest.mark.parametrize("format", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
@pytest.mark.parametrize("name", ["a.jpg", "deep/" * 12 + "a.jpg", "f/" * 60 + "x" * 120 + ".jpg", "bücher/ä.jpg"])
def test_every_tar_format_is_read(tmp_path: Path, format: int, name: str) -> None:
    path = tmp_path / "x.tar"
    (tmp_path / "content").write_bytes(b"c" * 700)
    (tmp_path / "folder").mkdir()
    with tarfile.open(path, "w", format=format) as tar:
        tar.add(tmp_path / "folder", "folder")
        try:
            tar.add(tmp_path / "content", name)
        except ValueError:
            pytest.skip("this format cannot hold the name")
    index = build_index(path)
    with tarfile.open(path) as tar:
        member = tar.getmember(name)
    assert (index.key(0), index.members(0)) == (name.removesuffix(".jpg"), {"jpg": (member.offset_data, 700)})


def test_an_index_comes_back_from_its_file(shard: Path, tmp_path: Path) -> None:
    index, path = build_index(shard), tmp_path / "x.index"
    write_index(index, path)
    again = read_index(path)
    for name in ShardIndex.__dataclass_fields__:
        mine, theirs = getattr(index, name), getattr(again, name)
        assert np.array_equal(mine, theirs) if isinstance(mine, np.ndarray) else mine == theirs, name
    assert read_header(path)["flags"] == {IMAGE | TEXT: len(index)}


def test_every_flipped_byte_of_an_index_file_is_noticed(shard: Path, tmp_path: Path) -> None:
    path = tmp_path / "x.index"
    write_index(build_index(shard), path)
    content = path.read_bytes()
    for position in range(0, len(content), 7):
        changed = bytearray(content)
        changed[position] ^= 0x10
        path.write_bytes(changed)
        with pytest.raises(IndexFileError):
            read_index(path)


def test_an_index_is_made_again_when_its_shard_was_written_to(tmp_path: Path, samples: list[Sample]) -> None:
    [(path, _)] = write_shards(samples[:3], tmp_path, 0, 10)
    shard, read = Shard(str(path)), list[Shard]()
    index_shards([shard], done=read.append)
    index_shards([shard], done=read.append)
    assert read == [shard] and find_index(shard) == index_path(shard)
    time.sleep(0.01)
    write_shards(samples[:4], tmp_path, 0, 10)
    assert find_index(shard) is None
    index_shards([shard], done=read.append)
    assert read == [shard, shard] and len(read_index(index_path(shard))) == 4


def test_an_index_beside_a_shard_that_cannot_be_written_to_lies_elsewhere(shards: Path, tmp_path: Path) -> None:
    before = sorted(shards.iterdir())
    found = index_shards(expand_shards(shards), tmp_path)
    assert sorted(shards.iterdir()) == before and all(tmp_path in path.parents for path in found)
    assert [find_index(shard, tmp_path) for shard in expand_shards(shards)] == found


def test_processes_make_the_same_indexes(shards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from mm_mhmoe_data.shards import index_store

    few = expand_shards(shards)
    alone = [path.read_bytes() for path in index_shards(few, tmp_path / "alone")]
    monkeypatch.setattr(index_store, "_FEW_BYTES", 0)
    assert [path.read_bytes() for path in index_shards(few, tmp_path / "two", workers=2)] == alone


def test_a_broken_shard_keeps_the_indexes_of_the_others(shards: Path, tmp_path: Path) -> None:
    paths = []
    for path in sorted(shards.glob("*.tar")):
        paths.append(tmp_path / path.name)
        paths[-1].write_bytes(path.read_bytes())
    os.truncate(paths[1], 512 * 9)
    with pytest.raises(ShardError, match=r"00001\.tar"):
        index_shards(expand_shards(tmp_path))
    found = [find_index(shard) for shard in expand_shards(tmp_path)]
    assert found[0] and not found[1]


def test_samples_are_found_without_reading_shards(tmp_path: Path) -> None:
    """Ten million samples in a thousand shards of which there is the index only: what is read is one index."""
    count, number = 10_000, 1000
    one = ShardIndex(
        size=0,
        mtime_ns=0,
        sha256="",
        extensions=("jpg", "txt"),
        keys=b"".join(b"%09d" % i for i in range(count)),
        key_end_n=np.arange(9, 9 * count + 9, 9, dtype=np.uint32),
        flag_n=np.full(count, 3, np.uint8),
        member_end_n=np.arange(2, 2 * count + 2, 2, dtype=np.uint32),
        extension_M=np.tile(np.array([0, 1], np.uint16), count),
        block_M=np.arange(2 * count, dtype=np.uint32) * 2 + 1,
        size_M=np.full(2 * count, 7, np.uint32),
    )
    first = tmp_path / "00000.tar"
    first.touch()
    os.utime(first, ns=(0, 0))
    shards = [Shard(f"{tmp_path}/{i:05d}.tar") for i in range(number)]
    write_index(one, index_path(shards[0]))
    for shard in shards[1:]:
        os.link(first, shard.local())
        os.link(index_path(shards[0]), index_path(shard))
    indexed = IndexedShards(shards, IMAGE | TEXT)
    assert len(indexed) == count * number
    assert (indexed.key(9_999_999), indexed.key(0), indexed.shard_of(9_999_999).name) == (
        "000009999",
        "000000000",
        "00999.tar",
    )
    assert len(indexed._loaded.things) == 2
