"""Truth: after a failure the directory holds what it held before, and nothing else."""

import errno
import os
from pathlib import Path

import pytest
import torch

from mm_mhmoe.training import checkpoint_io
from mm_mhmoe.training.checkpoint_io import AtomicCheckpointIO, newest_checkpoint, write_atomically


def full(*args, **kwargs):
    raise OSError(errno.ENOSPC, "No space left on device")


@pytest.mark.parametrize("call", ["fsync", "replace"])
def test_a_full_disk_leaves_the_old_file(tmp_path: Path, monkeypatch, call: str) -> None:
    target = tmp_path / "a"
    write_atomically(target, b"old")
    with monkeypatch.context() as patch:
        patch.setattr(os, call, full)
        with pytest.raises(OSError, match="No space left"):
            write_atomically(target, b"new")
    assert target.read_bytes() == b"old" and [p.name for p in tmp_path.iterdir()] == ["a"]
    write_atomically(target, b"new")
    assert target.read_bytes() == b"new" and [p.name for p in tmp_path.iterdir()] == ["a"]


def test_the_final_name_is_never_open_for_writing(tmp_path: Path, monkeypatch) -> None:
    seen = []
    rename = os.replace

    def spy(source, target):
        seen.append((Path(source).read_bytes(), Path(source).parent, Path(target).exists()))
        rename(source, target)

    monkeypatch.setattr(os, "replace", spy)
    write_atomically(tmp_path / "deep" / "a", b"whole")
    assert seen == [(b"whole", tmp_path / "deep", False)]


@pytest.fixture
def two(tmp_path: Path) -> Path:
    for step in (2, 10):
        AtomicCheckpointIO().save_checkpoint({"step": step}, tmp_path / f"step_{step:08d}.ckpt")
    return tmp_path


def step_of(path: Path | None) -> int | None:
    return None if path is None else torch.load(path, weights_only=True)["step"]


def test_the_newest_is_found(two: Path) -> None:
    assert step_of(newest_checkpoint(two)) == 10


@pytest.mark.parametrize("damage", ["cut", "flipped", "no checksum", "cut checksum", "empty"])
def test_a_damaged_newest_is_passed_over(two: Path, damage: str) -> None:
    path = two / "step_00000010.ckpt"
    content = path.read_bytes()
    if damage == "cut":
        path.write_bytes(content[:-10])
    elif damage == "flipped":
        path.write_bytes(content[:50] + bytes([content[50] ^ 1]) + content[51:])
    elif damage == "no checksum":
        path.with_suffix(".sha256").unlink()
    elif damage == "cut checksum":
        path.with_suffix(".sha256").write_text(path.with_suffix(".sha256").read_text()[:20])
    else:
        path.write_bytes(b"")
    assert step_of(newest_checkpoint(two)) == 2


def test_none_where_there_is_none(tmp_path: Path) -> None:
    assert newest_checkpoint(tmp_path) is None and newest_checkpoint(tmp_path / "nowhere") is None


def test_a_checksum_that_could_not_be_written_is_no_checkpoint(two: Path, monkeypatch) -> None:
    write = write_atomically

    def fail_on_checksum(path: Path, content: bytes) -> None:
        if path.suffix == checkpoint_io.CHECKSUM:
            full()
        write(path, content)

    monkeypatch.setattr(checkpoint_io, "write_atomically", fail_on_checksum)
    with pytest.raises(OSError):
        AtomicCheckpointIO().save_checkpoint({"step": 11}, two / "step_00000011.ckpt")
    assert step_of(newest_checkpoint(two)) == 10
