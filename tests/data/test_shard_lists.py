"""Every way to name shards, against timm's own reader, webdataset's expansion and cases by hand. Files are made up."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import webdataset
from mm_mhmoe_data.shards import Sample, Shard, Source, expand_shards, expand_sources, write_shards
from timm.data.readers.reader_wds import _load_info, _parse_split_info


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    samples = [Sample(key=f"{i}", parts={"jpg": b"j", "txt": b"t"}) for i in range(5)]
    write_shards(samples, tmp_path, 0, 2)
    return tmp_path


def _info(folder: Path, **splits: tuple[list[str], list[int]]) -> Path:
    content = {
        name: {"name": name, "num_samples": sum(lengths), "filenames": names, "shard_lengths": lengths}
        for name, (names, lengths) in splits.items()
    }
    (folder / "_info.json").write_text(json.dumps({"splits": content}))
    return folder / "_info.json"


def test_info_names_the_shards_that_timm_reads(folder: Path) -> None:
    info = _info(folder, train=(["00002.tar", "00000.tar"], [1, 2]), val=(["00001.tar"], [2]))
    for spec in (f"{folder}#train", f"{info}#train"):
        shards = expand_shards(spec)
        theirs = _parse_split_info("train", _load_info(str(folder)))
        assert [shard.name for shard in shards] == list(theirs.filenames)
        assert [shard.stated for shard in shards] == [(n, str(info)) for n in theirs.shard_lengths]
    with pytest.raises(ValueError, match=r"has several splits; name one as .*#SPLIT: train, val"):
        expand_shards(folder)
    with pytest.raises(ValueError, match=r"has no split 'test'.*train, val"):
        expand_shards(f"{folder}#test")
    _info(folder, all=(["00001.tar"], [2]))
    assert expand_shards(folder) == expand_shards(info) == [Shard(f"{folder}/00001.tar")]


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        ("[", "no list of shards"),
        ("{}", "needs .*splits"),
        ('{"splits": {"a": {"filenames": [3]}}}', "names are strings"),
        ('{"splits": {"a": {"filenames": ["0.tar"], "shard_lengths": [1, 2]}}}', "1 filenames but 2 shard_lengths"),
        ('{"splits": {"a": {"filenames": ["pipe:touch x"]}}}', "does not lie in its folder"),
        ('{"splits": {"a": {"filenames": ["../0.tar"]}}}', "does not lie in its folder"),
    ],
)
def test_a_wrong_info_is_refused_by_name(tmp_path: Path, content: str, problem: str) -> None:
    (tmp_path / "_info.json").write_text(content)
    with pytest.raises(ValueError, match=rf"_info\.json.*{problem}|{problem}.*_info\.json"):
        expand_shards(tmp_path)


def test_clip_benchmark_folders_count_their_shards(tmp_path: Path) -> None:
    test = tmp_path / "test"
    test.mkdir()
    for number in range(11):  # as text, 10 comes before 2
        (test / f"{number}.tar").touch()
    (test / "nshards.txt").write_text("11\n")
    expected = [Shard(f"{test}/{number}.tar") for number in range(11)]
    assert expand_shards(test) == expand_shards(f"{tmp_path}#test") == expected
    (test / "11.tar").touch()
    with pytest.raises(ValueError, match=r"nshards\.txt says 11 .* holds 12 .*11\.tar is not among them"):
        expand_shards(test)
    (test / "11.tar").unlink()
    (test / "3.tar").unlink()
    with pytest.raises(ValueError, match=r"says 11 .* holds 10 .*3\.tar is missing"):
        expand_shards(test)
    (test / "nshards.txt").write_text("many")
    with pytest.raises(ValueError, match=r"holds 'many' instead of the number"):
        expand_shards(test)


def test_a_text_list_is_seen_from_its_folder(folder: Path) -> None:
    (folder / "list.txt").write_text(f"# mine\n00001.tar\n\n{folder}/{{00000..00000}}.tar\n")
    assert [s.name for s in expand_shards(f"@{folder}/list.txt")] == ["00001.tar", "00000.tar"]
    assert [s.name for s in expand_shards(f"@{folder}/list.txt::{folder}/00002.tar")][-1] == "00002.tar"
    (folder / "list.txt").write_text("pipe:touch ran\n")
    with pytest.raises(ValueError, match="no pipe:"):
        expand_shards(f"@{folder}/list.txt", allow_pipe=True)
    (folder / "list.txt").write_text("# nothing\n")
    with pytest.raises(ValueError, match="names no shard"):
        expand_shards(f"@{folder}/list.txt")
    with pytest.raises(ValueError, match=r"none\.txt does not exist"):
        expand_shards(f"@{folder}/none.txt")


@pytest.mark.parametrize("spec", ["http://host/{00..02}/a-{0..3}.tar", "s3://b/{a,b}.tar::gs://c/x.tar"])
def test_addresses_expand_as_webdataset_expands_them(spec: str) -> None:
    assert [shard.location for shard in expand_shards(spec)] == webdataset.shardlists.expand_urls(spec)


@pytest.mark.parametrize("spec", ["ftp://h/0.tar", "ssh://h/0.tar", "ais://b/0.tar", "simplecache://x/0.tar"])
def test_other_schemes_are_refused_with_those_that_are_allowed(spec: str) -> None:
    with pytest.raises(ValueError, match=r"not allowed; .*http://, https://, s3://, gs://, hf://"):
        expand_shards(spec)


def test_a_command_is_refused_unless_it_is_allowed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GOPEN_REWRITE", f"{tmp_path}=pipe:touch {tmp_path}/ran; cat {tmp_path}")
    spec = f"pipe:touch {tmp_path}/ran"
    with pytest.raises(ValueError, match=r"would run a shell command.*allow_pipe=True"):
        expand_shards(spec)
    [shard] = expand_shards(spec, allow_pipe=True)
    with pytest.raises(ValueError, match="can only be streamed"):
        shard.local()
    assert not (tmp_path / "ran").exists()


def test_braces_must_close(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="brace that is not closed"):
        expand_shards(f"{tmp_path}/{{00000..00002.tar")


def test_sources_have_weights(folder: Path) -> None:
    a, b = f"{folder}/00000.tar", f"{folder}/{{00001..00002}}.tar"
    sources = expand_sources(f"{a}::{b}", "1::2.5")
    assert [(len(source.shards), source.weight) for source in sources] == [(1, 1.0), (2, 2.5)]
    assert expand_sources(f"{a}::{b}") == [Source(shards=s.shards) for s in sources]
    for weights, problem in [("1", "1 for the 2 sources"), ("1::x", "must be numbers"), ("1::0", "above 0")]:
        with pytest.raises(ValueError, match=problem):
            expand_sources(f"{a}::{b}", weights)
