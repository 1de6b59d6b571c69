"""Streams against `ShardDataset` on the same shards, and damage done byte by byte. Shards are made up."""

from __future__ import annotations

import itertools
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from mm_mhmoe_data.pipeline import Parts, ShardDataset
from mm_mhmoe_data.shards import Sample, Shard, ShardError, write_shards
from mm_mhmoe_data.shards.indexed import SampleError
from mm_mhmoe_data.shards.stream import stream_shard
from mm_mhmoe_data.streaming import stream_samples

Serve = Callable[[Path], Any]
pytestmark = pytest.mark.usefixtures("own_shard_cache")


@pytest.fixture
def shard(tmp_path: Path) -> Path:
    parts = [{"jpg": b"j" * (700 + i), "txt": b"a caption"} for i in range(3)]
    return write_shards([Sample(key=f"{i}", parts=p) for i, p in enumerate(parts)], tmp_path, 0, 10)[0][0]


def _damage(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    list(stream_shard(Shard(str(path))))


@pytest.mark.parametrize("buffer", [0, 7, 1000])
def test_every_sample_comes_once(shards: Path, buffer: int) -> None:
    dataset = ShardDataset(shards)
    came = {sample.key: sample for sample in stream_samples(shards, buffer=buffer)}
    assert sorted(came) == sorted(dataset.keys) and len(list(stream_samples(shards, buffer=buffer))) == len(dataset)
    for i, key in enumerate(dataset.keys):
        picture = came[key].picture
        assert picture is not None and torch.equal(picture, dataset.picture(i))
        assert (came[key].caption, came[key].shard) == (dataset.caption(i), str(dataset._shards.shard_of(i)))


def test_order_is_given_by_seed_and_epoch(shards: Path) -> None:
    def order(**given: int) -> list[str]:
        return [sample.key for sample in stream_samples(shards, "texts", buffer=10, **given)]

    assert order(seed=1, epoch=2) == order(seed=1, epoch=2)
    assert len({tuple(order(seed=s, epoch=e)) for s in range(3) for e in range(3)}) == 9


def test_shares_are_the_whole(shards: Path) -> None:
    shares = [[s.key for s in stream_samples(shards, "texts", share=(i, 3), buffer=5)] for i in range(3)]
    assert sorted(itertools.chain(*shares)) == sorted(ShardDataset(shards, "texts").keys) and all(shares)
    with pytest.raises(ValueError, match="3 shards: each process and worker needs a shard of its own"):
        stream_samples(shards, share=(0, 4))


def test_a_stopped_run_begins_with_the_shard_it_was_in(shards: Path) -> None:
    whole = list(stream_samples(shards, "texts", buffer=0))
    at = whole[15].shard_number
    rest = list(stream_samples(shards, "texts", buffer=0, start=at))
    assert at == 1 and rest == [sample for sample in whole if sample.shard_number >= at]


@pytest.mark.parametrize(("parts", "keys"), [("pairs", "a"), ("images", "ab"), ("texts", "ac")])
def test_samples_have_the_parts_asked_for(
    tmp_path: Path, make_picture: Callable[[int], bytes], parts: Parts, keys: str
) -> None:
    picture = make_picture(0)
    made = {"a": {"png": picture, "txt": b"t"}, "b": {"png": picture, "txt": b""}, "c": {"txt": b"t"}}
    write_shards([Sample(key=key, parts=p) for key, p in made.items()], tmp_path, 0, 10)
    came = list(stream_samples(tmp_path, parts))
    assert sorted(s.key for s in came) == list(keys) == list(ShardDataset(tmp_path, parts).keys)
    assert all((s.picture is None) == (parts == "texts") for s in came)


def test_every_cut_is_noticed(shard: Path, tmp_path: Path) -> None:
    content = shard.read_bytes()
    data_end = len(content.rstrip(b"\0")) + 512
    for length in range(0, data_end + 512, 256):
        with pytest.raises(ShardError):
            _damage(tmp_path / "cut.tar", content[:length])
    _damage(tmp_path / "whole.tar", content[: data_end + 1024])


def test_every_flip_in_a_header_is_noticed(shard: Path, tmp_path: Path) -> None:
    content = shard.read_bytes()
    second = content.index(b"0.txt")
    for position in range(second, second + 148, 3):  # a reader that stops at a damaged header loses the rest
        changed = bytearray(content)
        changed[position] ^= 0x04
        with pytest.raises(ShardError):
            _damage(tmp_path / "flipped.tar", bytes(changed))


def test_joined_tars_and_huge_members_are_refused(shard: Path, tmp_path: Path) -> None:
    with pytest.raises(ShardError, match="second tar file"):
        _damage(tmp_path / "joined.tar", shard.read_bytes() * 2)
    with pytest.raises(ShardError, match=r"'0\.jpg' has 700 bytes, more than 600"):
        list(stream_shard(Shard(str(shard)), max_member_bytes=600))


def test_bad_samples_and_shards_are_told_of(shards: Path, tmp_path: Path) -> None:
    for path in shards.glob("*.tar"):
        shutil.copy(path, tmp_path)
    (tmp_path / "00000.tar").write_bytes((shards / "00000.tar").read_bytes()[: 512 * 31])
    bad = [Sample(key="x", parts={"jpg": b"no", "txt": b"t"}), Sample(key="y", parts={"jpg": b"no", "txt": b"\xff"})]
    write_shards(bad, tmp_path, 3, 10)
    errors: list[ShardError] = []
    came = [sample.key for sample in stream_samples(tmp_path, bad=errors.append)]
    assert {f"{i:09d}" for i in range(10, 23)} < set(came) and len(came) < 23
    assert sorted(e.stage if isinstance(e, SampleError) else "shard" for e in errors) == ["decode", "shard", "text"]
    with pytest.raises(ShardError):
        list(stream_samples(tmp_path))


def test_commands_run_only_when_allowed(shards: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    spec = f"pipe:cat {shards}/{{00000..00002}}.tar"
    with pytest.raises(ValueError, match="allow_pipe=True"):
        stream_samples(spec)
    with pytest.raises(ValueError, match="allow_pipe=True"):
        stream_samples([Shard(f"pipe:touch {tmp_path}/ran")])
    came = [sample.key for sample in stream_samples(spec, allow_pipe=True)]
    assert sorted(came) == sorted(ShardDataset(shards).keys)
    assert "approximate resume" in caplog.text and not (tmp_path / "ran").exists()
    stream = stream_samples(spec, allow_pipe=True, buffer=0)
    next(stream)
    stream.close()  # type: ignore[attr-defined]  # a command that is not read to its end is no error
    for command in (f"cat {shards}/00000.tar; exit 3", "true", "cat /none.tar"):
        with pytest.raises(ShardError):
            list(stream_samples(f"pipe:{command}", allow_pipe=True))


def test_servers_are_read_without_keeping_shards(shards: Path, serve: Serve, own_shard_cache: Path) -> None:
    server = serve(shards)
    came = [sample.key for sample in stream_samples(f"{server.address}/{{00000..00002}}.tar")]
    assert sorted(came) == sorted(ShardDataset(shards).keys)
    server.broken = ["503"]
    assert list(stream_samples(f"{server.address}/00000.tar")) and not own_shard_cache.exists()
    server.broken = ["short"]
    with pytest.raises(ShardError, match=r"00000\.tar: it broke off"):
        list(stream_samples(f"{server.address}/00000.tar"))
