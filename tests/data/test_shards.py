"""Shards: writing is reproducible, reading notices every kind of damage."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path

import pytest
import webdataset
from mm_mhmoe_data.shards import Sample, Shard, ShardError, check_shard, expand_shards, iter_samples, write_shards


def _samples(count: int) -> list[Sample]:
    return [
        Sample(key=f"{i:09d}", parts={"jpg": b"j" * (700 + i), "txt": b"a caption", "json": b"{}"})
        for i in range(count)
    ]


@pytest.fixture
def shard(tmp_path: Path) -> Path:
    return write_shards(_samples(4), tmp_path / "good", 0, 10)[0][0]


def _tar(path: Path, members: list[tuple[str, bytes]]) -> Path:
    with tarfile.open(path, "w", format=tarfile.USTAR_FORMAT) as tar:
        for name, data in members:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return path


def test_written_samples_come_back_in_order(tmp_path: Path) -> None:
    written = write_shards(_samples(5), tmp_path, 7, 2)
    assert [(path.name, count) for path, count in written] == [
        ("00007.tar", 2),
        ("00008.tar", 2),
        ("00009.tar", 1),
    ]
    read = [sample for path, _ in written for sample in iter_samples(path)]
    assert [(s.key, dict(s.parts)) for s in read] == [(s.key, dict(s.parts)) for s in _samples(5)]


def test_equal_samples_give_equal_bytes(tmp_path: Path) -> None:
    first = write_shards(_samples(3), tmp_path / "a", 0, 3)[0][0]
    second = write_shards(_samples(3), tmp_path / "b", 0, 3)[0][0]
    assert first.read_bytes() == second.read_bytes()


def test_webdataset_reads_the_same_samples(shard: Path) -> None:
    dataset = webdataset.WebDataset(str(shard), shardshuffle=False, empty_check=False)
    assert [sample["__key__"] for sample in dataset] == [sample.key for sample in iter_samples(shard)]


def test_a_failing_source_leaves_no_shard(tmp_path: Path) -> None:
    def broken():  # type: ignore[no-untyped-def]
        yield from _samples(1)
        yield Sample(key="x", parts={"jpg": 5})  # type: ignore[dict-item]

    with pytest.raises(ValueError):
        write_shards(broken(), tmp_path, 0, 10)
    assert list(tmp_path.iterdir()) == []


def test_every_cut_before_the_trailer_is_noticed(shard: Path, tmp_path: Path) -> None:
    content = shard.read_bytes()
    data_end = len(content.rstrip(b"\0")) + 512  # the last data block may end in zeros of its own
    cut = tmp_path / "cut.tar"
    for length in range(0, data_end + 512, 256):
        cut.write_bytes(content[:length])
        with pytest.raises(ShardError):
            check_shard(cut)


def test_every_flip_in_the_name_of_a_header_is_noticed(shard: Path, tmp_path: Path) -> None:
    content = shard.read_bytes()
    flipped = tmp_path / "flipped.tar"
    for position in range(148):  # all bytes in front of the checksum
        changed = bytearray(content)
        changed[position] ^= 0x04
        flipped.write_bytes(changed)
        with pytest.raises(ShardError, match="header at byte 0"):
            check_shard(flipped)


def test_joined_tars_are_refused_with_a_remedy(shard: Path, tmp_path: Path) -> None:
    joined = tmp_path / "joined.tar"
    joined.write_bytes(shard.read_bytes() * 2)
    with pytest.raises(ShardError, match=r"joined\.tar.*may have been joined.*again"):
        check_shard(joined)


@pytest.mark.parametrize(
    ("members", "problem"),
    [
        ([("a.jpg", b"1"), ("b.jpg", b"2"), ("a.txt", b"3"), ("b.txt", b"4")], "not next to each other"),
        ([("a.jpg", b"1"), ("a.jpg", b"2")], "twice"),
        ([("noextension", b"1")], "no extension"),
    ],
)
def test_wrong_members_are_refused(tmp_path: Path, members: list[tuple[str, bytes]], problem: str) -> None:
    with pytest.raises(ShardError, match=problem):
        check_shard(_tar(tmp_path / "x.tar", members))


def test_links_and_huge_members_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "link.tar"
    with tarfile.open(path, "w", format=tarfile.USTAR_FORMAT) as tar:
        info = tarfile.TarInfo("a.jpg")
        info.type, info.linkname = tarfile.SYMTYPE, "/etc/hostname"
        tar.addfile(info)
    with pytest.raises(ShardError, match="not a plain file"):
        check_shard(path)
    big = _tar(tmp_path / "big.tar", [("a.jpg", b"x" * 2000)])
    with pytest.raises(ShardError, match="more than 1000"):
        list(iter_samples(big, max_member_bytes=1000))


def test_the_key_ends_at_the_first_dot(tmp_path: Path) -> None:
    sample = next(iter_samples(_tar(tmp_path / "x.tar", [("d.1/photo.v2.JPG", b"1")])))
    assert (sample.key, list(sample.parts)) == ("d.1/photo", ["v2.jpg"])


def test_shard_lists(tmp_path: Path) -> None:
    names = [Shard(str(path)) for path, _ in write_shards(_samples(3), tmp_path, 0, 1)]
    assert expand_shards(tmp_path) == names
    assert expand_shards(f"{tmp_path}/*.tar") == names
    assert expand_shards(f"{tmp_path}/{{00000..00002}}.tar") == names
    assert expand_shards(f"{names[1]}::{names[0]}") == [names[1], names[0]]


@pytest.mark.parametrize("spec", ["missing.tar", "missing/*.tar", "{00000..00002}.tar", ""])
def test_a_list_that_names_nothing_says_what_was_looked_for(tmp_path: Path, spec: str) -> None:
    with pytest.raises(ValueError, match=r"looked for .* Give a \.tar"):
        expand_shards(f"{tmp_path}/{spec}")
