"""Salvaged shards hold what was intact, byte for byte, and nothing else. Truth: the samples that were written.

Samples are made up: the demo's layout with random pixels.
"""

from __future__ import annotations

import io
import os
import tarfile
from pathlib import Path

import pytest
from mm_mhmoe_data.shards import Sample, iter_samples, write_shards
from mm_mhmoe_data.validation import validate_shards


@pytest.fixture
def shard(tmp_path: Path, samples: list[Sample]) -> Path:
    return write_shards(samples[:6], tmp_path / "in", 0, 10)[0][0]


def saved(shard: Path) -> dict[str, dict[str, bytes]]:
    out = shard.parent.parent / "out"
    validate_shards([shard], salvage_to=out)
    return {s.key: dict(s.parts) for s in iter_samples(out / shard.name)}


def parts_of(samples: list[Sample]) -> dict[str, dict[str, bytes]]:
    return {sample.key: dict(sample.parts) for sample in samples}


def test_samples_on_both_sides_of_a_flipped_header(shard: Path, samples: list[Sample]) -> None:
    content = bytearray(shard.read_bytes())
    content[content.index(b"000000002.txt")] ^= 1
    shard.write_bytes(content)
    assert saved(shard) == parts_of([*samples[:2], *samples[3:6]])


def test_lost_bytes_inside_a_picture_cost_its_sample_only(shard: Path, samples: list[Sample]) -> None:
    content = shard.read_bytes()
    at = content.index(b"000000003.png") + 900
    shard.write_bytes(content[:at] + content[at + 300 :])
    assert saved(shard) == parts_of([*samples[:3], *samples[4:6]])


def test_both_halves_of_joined_shards(shard: Path, samples: list[Sample]) -> None:
    other = write_shards(samples[6:9], shard.parent.parent, 5, 10)[0][0]
    shard.write_bytes(shard.read_bytes() + other.read_bytes())
    assert saved(shard) == parts_of(samples[:9])


def test_members_sorted_by_extension_are_put_together(shard: Path, samples: list[Sample]) -> None:
    members = [(f"{s.key}.{e}", c) for s in samples[:6] for e, c in s.parts.items()]
    with tarfile.open(shard, "w") as tar:
        for name, content in sorted(members, key=lambda member: member[0].rpartition(".")[2]):
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    assert saved(shard) == parts_of(samples[:6])


@pytest.mark.parametrize("equal", [True, False])
def test_a_second_member_is_dropped_only_if_it_says_the_same(shard: Path, samples: list[Sample], equal: bool) -> None:
    with tarfile.open(shard, "a") as tar:
        content = samples[1].parts["txt"] if equal else b"something else"
        info = tarfile.TarInfo("000000001.txt")
        info.size = len(content)
        tar.addfile(info, io.BytesIO(content))
    assert saved(shard) == parts_of(samples[:6] if equal else [samples[0], *samples[2:6]])


def test_samples_with_bad_content_are_left_out(tmp_path: Path, samples: list[Sample]) -> None:
    bad = Sample(key="000000001", parts={**samples[1].parts, "txt": b"\xff"})
    shard = write_shards([samples[0], bad, samples[2]], tmp_path / "in", 0, 10)[0][0]
    assert saved(shard) == parts_of([samples[0], samples[2]])


def test_sound_shards_are_not_written_again_and_nothing_is_overwritten(
    shard: Path, tmp_path: Path, samples: list[Sample]
) -> None:
    out = tmp_path / "out"
    assert validate_shards([shard], salvage_to=out).shards[0].salvaged is None
    assert not out.exists()
    os.truncate(shard, shard.read_bytes().index(b"000000005.") + 600)
    assert validate_shards([shard], salvage_to=out).shards[0].salvaged == 5
    for folder in (out, shard.parent):
        with pytest.raises(ValueError, match="name an empty folder"):
            validate_shards([shard], salvage_to=folder)
    other = write_shards([Sample(key="x", parts={"txt": b"x"})], tmp_path / "other", 0, 1)[0][0]
    with pytest.raises(ValueError, match="same name"):
        validate_shards([shard, other], salvage_to=tmp_path / "new")
    assert parts_of(list(iter_samples(out / shard.name))) == parts_of(samples[:5])


def test_a_shard_with_nothing_intact_leaves_no_file(shard: Path, tmp_path: Path) -> None:
    shard.write_bytes(b"\x1f\x8b" + shard.read_bytes())
    assert validate_shards([shard], salvage_to=tmp_path / "out").shards[0].salvaged == 0
    assert list((tmp_path / "out").iterdir()) == []
