"""Remote shards against the same shards on this machine, by HTTP on loopback and in fsspec's memory. Made-up files."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import fsspec
import pytest
import torch
from mm_mhmoe_data.pipeline import ShardDataset
from mm_mhmoe_data.shards import Shard, ShardError, expand_shards
from mm_mhmoe_data.shards.cache import SIZE_VARIABLE
from mm_mhmoe_data.shards.index_store import index_shards
from mm_mhmoe_data.shards.remote import RemoteError
from torch.utils.data import DataLoader, Dataset

Serve = Callable[[Path], Any]
pytestmark = pytest.mark.usefixtures("own_shard_cache")


@pytest.fixture
def folder(shards: Path, tmp_path: Path) -> Path:
    shutil.copytree(shards, tmp_path / "served", ignore=shutil.ignore_patterns("*.index"))
    return tmp_path / "served"


@pytest.fixture
def memory(folder: Path) -> Iterator[str]:
    files = fsspec.filesystem("memory")
    files.put(f"{folder}/", "/remote/", recursive=True)
    yield "memory://remote"
    files.rm("/remote", recursive=True)


class _Captions(Dataset):
    def __init__(self, dataset: ShardDataset) -> None:
        self.dataset = dataset

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int) -> str:
        return self.dataset.caption(index)


def _same(ours: ShardDataset, theirs: ShardDataset) -> bool:
    return list(ours.keys) == list(theirs.keys) and all(
        ours.caption(i) == theirs.caption(i) and torch.equal(ours.picture(i), theirs.picture(i))
        for i in range(len(theirs))
    )


def test_a_shard_may_be_named_twice(folder: Path, serve: Serve) -> None:
    index_shards(expand_shards(folder))
    address = f"{serve(folder).address}/00000.tar"
    assert ShardDataset("::".join([address] * 8)).counts == [10] * 8


@pytest.mark.parametrize("form", ["{}", "{}/*.tar", "{}/{{00000..00002}}.tar"])
def test_memory_holds_the_same_samples(folder: Path, memory: str, form: str) -> None:
    assert _same(ShardDataset(form.format(memory)), ShardDataset(folder))


def test_lists_lie_on_other_machines_too(folder: Path, memory: str) -> None:
    files = fsspec.filesystem("memory")
    files.pipe("/remote/list.txt", f"00001.tar\n{folder}/00000.tar\n{memory}/00002.tar\n".encode())
    info = {"splits": {"train": {"filenames": ["00002.tar"], "shard_lengths": [3]}, "val": {"filenames": []}}}
    files.pipe("/remote/_info.json", json.dumps(info).encode())
    names = [shard.location for shard in expand_shards(f"@{memory}/list.txt")]
    # A list of another machine names nothing on this one.
    assert names == [f"{memory}/00001.tar", f"{memory}/{folder}/00000.tar", f"{memory}/00002.tar"]
    [shard] = expand_shards(f"{memory}#train")
    assert (shard.name, shard.stated) == ("00002.tar", (3, f"{memory}/_info.json"))
    assert len(ShardDataset(f"{memory}#train")) == 3
    with pytest.raises(ValueError, match="has several splits"):
        expand_shards(memory)


def test_a_server_without_indexes_is_asked_once_for_each_shard(folder: Path, serve: Serve) -> None:
    server = serve(folder)
    assert _same(ShardDataset(server.address), ShardDataset(folder))
    server.asked.clear()
    again = ShardDataset(f"{server.address}/{{00000..00002}}.tar")
    assert list(again.keys) == list(ShardDataset(folder).keys) and again.caption(0)
    assert server.asked == ["GET /sizes.json"]


def test_with_indexes_a_shard_is_fetched_when_it_is_read(folder: Path, serve: Serve, own_shard_cache: Path) -> None:
    index_shards(expand_shards(folder))
    server = serve(folder)
    dataset = ShardDataset(f"{server.address}/{{00000..00002}}.tar")
    assert list(dataset.keys) == list(ShardDataset(folder).keys)
    assert not [line for line in server.asked if line.endswith(".tar")] and not own_shard_cache.exists()
    assert dataset.caption(12) == ShardDataset(folder).caption(12)
    assert [line for line in server.asked if line.endswith(".tar")] == ["GET /00001.tar"]


def test_an_index_of_another_shard_is_passed_over(folder: Path, serve: Serve) -> None:
    mine = ShardDataset(folder)
    index_shards(expand_shards(folder), folder / "elsewhere")
    indexes = sorted(folder.glob("elsewhere/*/*.index"))
    (folder / "00000.tar.index").write_bytes(indexes[2].read_bytes())
    (folder / "00001.tar.index").write_bytes(indexes[1].read_bytes())
    (folder / "00002.tar.index").write_bytes(indexes[2].read_bytes()[:-1])
    server = serve(folder)
    theirs = ShardDataset(server.address)
    assert {f"GET /0000{i}.tar" for i in (0, 2)} == {line for line in server.asked if line.endswith(".tar")}
    assert _same(theirs, mine)


@pytest.mark.parametrize("fetched_before", [False, True])
def test_a_shard_that_is_not_its_index_s_is_refused(folder: Path, serve: Serve, fetched_before: bool) -> None:
    index_shards(expand_shards(folder))
    content = bytearray((folder / "00000.tar").read_bytes())
    content[600] ^= 1  # of a picture: neither size nor headers show it
    (folder / "00000.tar").write_bytes(content)
    dataset = ShardDataset(f"{serve(folder).address}/00000.tar")
    if fetched_before:
        dataset._shards.shards[0].local()
    with pytest.raises(ShardError, match=r"http://.*/00000\.tar: its sha256 is .* in its index: it was changed"):
        dataset.image_bytes(0)
    index_shards(expand_shards(folder))  # and once that is mended, the old index is not found again
    assert ShardDataset(dataset._shards.shards).image_bytes(0)


def test_errors_name_the_address_of_a_broken_shard(folder: Path, serve: Serve) -> None:
    os.truncate(folder / "00001.tar", 512 * 9)
    server = serve(folder)
    with pytest.raises(ShardError, match=rf"{server.address}/00001\.tar: .*cut"):
        ShardDataset(server.address)
    with pytest.raises(RemoteError, match=r"00009\.tar: there is no such file"):
        ShardDataset(f"{server.address}/00009.tar")


def test_workers_fetch_too(folder: Path, serve: Serve) -> None:
    index_shards(expand_shards(folder))
    dataset = ShardDataset(serve(folder).address)  # used before the workers are forked
    expected = [ShardDataset(folder).caption(i) for i in range(len(dataset))]
    assert list(DataLoader(_Captions(dataset), batch_size=None, num_workers=2)) == expected


def test_failures_are_tried_again(folder: Path, serve: Serve) -> None:
    server = serve(folder)
    shard = Shard(f"{server.address}/00000.tar").found()
    server.broken = ["503", "short"]
    assert shard.local().read_bytes() == (folder / "00000.tar").read_bytes()
    server.broken = ["503"] * 3
    with pytest.raises(RemoteError, match=r"00001\.tar cannot be read after 3 tries.*503.*run the same command again"):
        Shard(f"{server.address}/00001.tar").local()


def test_a_server_that_cannot_be_asked_is_no_missing_file(folder: Path, serve: Serve) -> None:
    server = serve(folder)
    server.broken = ["503"] * 3
    server.head = False
    with pytest.raises(RemoteError, match=r"00000\.tar cannot be read after 3 tries \(ClientResponseError: 503"):
        ShardDataset(f"{server.address}/00000.tar")
    with pytest.raises(RemoteError, match=r"00009\.tar: there is no such file"):
        ShardDataset(f"{server.address}/00009.tar")
    server.close()
    with pytest.raises(RemoteError, match=r"00000\.tar cannot be read after 3 tries.*Check the network"):
        ShardDataset(f"{server.address}/00000.tar")


def test_the_least_recently_used_shard_makes_room(
    folder: Path, serve: Serve, own_shard_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shards = [Shard(f"{serve(folder).address}/0000{i}.tar").found() for i in range(3)]
    sizes = [(folder / shard.name).stat().st_size for shard in shards]
    monkeypatch.setenv(SIZE_VARIABLE, str((sum(sizes) - 1) / 1e9))
    paths = [shards[0].local(), shards[1].local()]
    os.utime(paths[1], (1, 1))
    with paths[1].open("rb") as opened:
        paths.append(shards[2].local())
        assert [path.exists() for path in paths] == [True, False, True]
        assert opened.read() == (folder / "00001.tar").read_bytes()
    left = own_shard_cache / "left.tar.part"  # by a process that was killed
    left.write_bytes(b"x" * 100)
    os.utime(left, (1, 1))
    shards[1].local()
    assert not left.exists()


@pytest.mark.parametrize(
    ("gigabytes", "problem"), [("1e-6", rf"may hold \(1,000\); raise {SIZE_VARIABLE}"), ("much", "must be a number")]
)
def test_a_folder_that_is_too_small_says_how_to_enlarge_it(
    memory: str, gigabytes: str, problem: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(SIZE_VARIABLE, gigabytes)
    with pytest.raises(ValueError, match=problem):
        Shard(f"{memory}/00000.tar").local()


def test_processes_fetch_a_shard_once(folder: Path, serve: Serve) -> None:
    server = serve(folder)
    code = "import sys; from mm_mhmoe_data.shards import Shard; print(Shard(sys.argv[1]).local().stat().st_size)"
    command = [sys.executable, "-c", code, f"{server.address}/00000.tar"]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    running = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) for _ in range(2)]
    size = (folder / "00000.tar").stat().st_size
    assert [process.communicate()[0] for process in running] == [f"{size}\n"] * 2
    assert server.asked == ["GET /00000.tar"]


@pytest.mark.parametrize(("scheme", "extra"), [("s3", "s3"), ("gs", "gs"), ("hf", "hf")])
def test_a_missing_package_is_named(scheme: str, extra: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(*args: Any, **options: Any) -> None:
        raise ImportError("no such package")

    monkeypatch.setattr(fsspec, "filesystem", missing)
    with pytest.raises(RemoteError, match=rf"pip install 'mm-mhmoe\[{extra}\]'"):
        ShardDataset(f"{scheme}://bucket/00000.tar")
