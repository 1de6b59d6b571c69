"""Every kind of finding on a shard that was made to have it, and on nothing else.

The shards are made here, byte by byte or with the standard library's tarfile; pictures are random pixels.
"""

from __future__ import annotations

import io
import json
import math
import os
import pickle
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest
from mm_mhmoe_data.parallel import parallel
from mm_mhmoe_data.shards import Sample, Shard, ShardError, check_shard, write_shards
from mm_mhmoe_data.shards.index_store import index_path, index_shards
from mm_mhmoe_data.validation import KINDS, Checks, Report, validate_shards
from mm_mhmoe_data.validation.report import as_json, as_text, summary
from PIL import Image
from rich.console import Console


def picture(format: str = "PNG", size: tuple[int, int] = (9, 8), mode: str = "RGB") -> bytes:
    out = io.BytesIO()
    Image.new(mode, size).save(out, format)
    return out.getvalue()


GOOD = [(f"00000000{i}.{e}", c) for i in range(4) for e, c in (("jpg", picture("JPEG")), ("txt", b"a cat"))]
Members = list[tuple[str, bytes]]


def tar(path: Path, members: Members, format: int = tarfile.USTAR_FORMAT) -> Path:
    with tarfile.open(path, "w", format=format) as out:
        for name, content in members:
            info = tarfile.TarInfo(name)
            info.size = len(content)
            out.addfile(info, io.BytesIO(content))
    return path


def counts(report: Report) -> dict[str, int]:
    return dict(report.counts)


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MM_MHMOE_CACHE", str(tmp_path / "cache"))


def test_sound_shards_have_no_findings(shards: Path) -> None:
    report = validate_shards(sorted(shards.glob("*.tar")))
    assert report.findings == []
    assert [(shard.samples, shard.intact) for shard in report.shards] == [(10, 10), (10, 10), (3, 3)]


# One sample with one fault in front of four sound ones: what is found, and how many samples remain usable.
CONTENT: dict[str, tuple[Members, dict[str, int], int]] = {
    "no picture": ([("a.txt", b"x")], {"no_picture": 1}, 5),
    "no text": ([("a.png", picture())], {"no_text": 1}, 5),
    "empty text": ([("a.png", picture()), ("a.txt", b"")], {"no_text": 1}, 5),
    "blank text": ([("a.png", picture()), ("a.txt", b" \n")], {"no_text": 1}, 5),
    "two pictures": ([("a.jpg", picture("JPEG")), ("a.png", picture()), ("a.txt", b"x")], {"two_pictures": 1}, 5),
    "no bytes": ([("a.jpg", b""), ("a.txt", b"x")], {"picture": 1}, 4),
    "a cut picture": ([("a.jpg", picture("JPEG", (90, 90))[:-30]), ("a.txt", b"x")], {"picture": 1}, 4),
    "a web page": ([("a.jpg", b"<!DOCTYPE html><p>404"), ("a.txt", b"x")], {"picture": 1}, 4),
    "a gif": ([("a.jpg", picture("GIF")), ("a.txt", b"x")], {"picture": 1}, 4),
    "a bomb": ([("a.png", picture(size=(9000, 9000), mode="1")), ("a.txt", b"x")], {"pixels": 1}, 4),
    "a png as jpg": ([("a.jpg", picture()), ("a.txt", b"x")], {"format": 1}, 5),
    "latin-1": ([("a.png", picture()), ("a.txt", b"caf\xe9")], {"text": 1}, 4),
    "a book": ([("a.png", picture()), ("a.txt", b"x" * 70_000)], {"long_text": 1}, 4),
    "bad json": ([("a.png", picture()), ("a.txt", b"x"), ("a.json", b"{")], {"json": 1}, 4),
    "deep json": ([("a.png", picture()), ("a.txt", b"x"), ("a.json", b"[" * 60_000)], {"json": 1}, 4),
    "a list": ([("a.png", picture()), ("a.txt", b"x"), ("a.json", b"[]")], {"json": 1}, 4),
    "another's json": ([("a.png", picture()), ("a.txt", b"x"), ("a.json", b'{"key": "b"}')], {"json_key": 1}, 5),
    "its own json": ([("d/a.png", picture()), ("d/a.txt", b"x"), ("d/a.json", b'{"key": "a"}')], {}, 5),
    "a pickle": ([("a.png", picture()), ("a.txt", b"x"), ("a.emb.pkl", b"")], {"runs_code": 1}, 5),
    "gzip": ([("a.png", picture()), ("a.txt", b"x"), ("a.json.gz", b"")], {"inflates": 1}, 5),
    "dots": ([("p.v2.jpg", picture()), ("p.txt", b"x")], {"dots": 1, "no_picture": 1}, 5),
    "above": ([("../a.png", picture()), ("../a.txt", b"x")], {"path": 2}, 5),
    "absolute": ([("/a.png", picture()), ("/a.txt", b"x")], {"path": 2}, 5),
    "backslashes": ([("d\\a.png", picture()), ("d\\a.txt", b"x")], {"path": 2}, 5),
    "hidden": ([(".d/a.png", picture()), (".d/a.txt", b"x")], {"path": 2}, 5),
    "here": ([("./a.png", picture()), ("./a.txt", b"x")], {}, 5),
    "a bell": ([("a\a.png", picture()), ("a\a.txt", b"x")], {"control": 2}, 5),
    "macOS": ([("a.png", picture()), ("a.txt", b"x"), ("._a.png", b"x")], {"no_key": 1, "path": 0}, 5),
    "no extension": ([("README", b"x")], {"no_key": 1}, 4),
    "a copy": ([("a.png", picture()), ("a.txt", b"x"), ("a.txt", b"x")], {"twice": 1}, 5),
    "apart": ([("a.png", picture()), *GOOD[:2], ("a.txt", b"x")], {"split": 1}, 5),
}


@pytest.mark.parametrize("case", CONTENT)
def test_faults_of_members_and_samples(case: str, tmp_path: Path) -> None:
    members, expected, intact = CONTENT[case]
    rest = [member for member in GOOD if member not in members]
    path = tar(tmp_path / "x.tar", [*members, *rest])
    report = validate_shards([path])
    assert counts(report) == {kind: count for kind, count in expected.items() if count}
    assert report.shards[0].intact == intact
    for finding in report.findings:
        assert finding.shard == str(path)
        name = finding.member or finding.key
        assert name and any(member.startswith(name) for member, _ in members)
        if finding.at is not None:
            with tarfile.open(path) as tar_file:
                offsets = {member.offset_data for member in tar_file if member.name == finding.member}
            assert finding.at in offsets


def damaged(whole: bytes) -> dict[str, tuple[bytes, dict[str, int], int]]:
    """What is done to a tar of four samples, what is to be found, how many samples are intact."""
    header = whole.index(b"000000002.jpg")  # of the third sample
    text = whole.index(b"000000002.txt")
    end = whole.index(b"000000003.txt") + 1024
    flipped = bytearray(whole)
    flipped[text] ^= 1
    linked = bytearray(whole[: text + 512] + whole[text + 1024 :])
    linked[text + 124 : text + 157] = b"0" * 11 + b"\0" + linked[text + 136 : text + 156] + b"2"  # a link has no bytes
    _mend(linked, text)
    latin = bytearray(whole)
    latin[text] = 0xE9
    _mend(latin, text)
    inserted = whole[: header + 700] + b"12345" + whole[header + 700 :]
    return {
        "mid-header": (whole[: header + 100], {"cut": 1}, 2),
        "mid-data": (whole[: header + 600], {"cut": 1}, 2),
        "between members": (whole[:text], {"cut": 1}, 2),
        "between samples": (whole[:header], {"cut": 1}, 2),
        "no trailer": (whole[:end], {"cut": 1}, 4),
        "half a trailer": (whole[: end + 512], {"cut": 1}, 4),
        "an odd byte at the end": (whole + b"\0", {"cut": 1}, 4),
        "a flipped bit": (bytes(flipped), {"header": 1}, 3),
        "a link": (bytes(linked), {"special": 1}, 3),
        "a name in latin-1": (bytes(latin), {"name": 1}, 3),
        "bytes too many": (inserted, {"header": 1, "picture": 1}, 3),
        "joined": (whole + tar_of_others(), {"joined": 1}, 8),
        "a zeroed half": (whole[:header] + bytes(len(whole) - header + 20480), {"zeros": 1}, 2),
        "gzip": (b"\x1f\x8b" + whole, {"not_tar": 1}, 0),
        "a web page": (b"<html>404", {"not_tar": 1}, 0),
        "nothing": (b"", {"cut": 1}, 0),
        "no samples": (bytes(10240), {"empty": 1}, 0),
    }


def _mend(content: bytearray, at: int) -> None:
    content[at + 148 : at + 156] = b" " * 8
    content[at + 148 : at + 156] = b"%06o\0 " % sum(content[at : at + 512])


def tar_of_others() -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.USTAR_FORMAT) as other:
        for name, content in GOOD:
            info = tarfile.TarInfo(f"1{name}")
            info.size = len(content)
            other.addfile(info, io.BytesIO(content))
    return out.getvalue()


@pytest.fixture
def whole(tmp_path: Path) -> bytes:
    return tar(tmp_path / "whole.tar", GOOD).read_bytes()


def test_damage_and_what_remains(whole: bytes, tmp_path: Path) -> None:
    path = tmp_path / "x.tar"
    for case, (content, expected, intact) in damaged(whole).items():
        path.write_bytes(content)
        report = validate_shards([path])
        assert (counts(report), report.shards[0].intact) == (expected, intact), case
        if report.number("error"):
            with pytest.raises((ShardError, ValueError)):
                check_shard(path)


def test_every_cut_is_found_and_the_samples_before_it_are_intact(whole: bytes, tmp_path: Path) -> None:
    """A sample is intact if its last byte was kept, by the offsets of tarfile.

    Of a shard that is cut behind its first sample nobody knows how many members a sample has.
    """
    path = tmp_path / "x.tar"
    with tarfile.open(fileobj=io.BytesIO(whole)) as tar_file:
        ends = [m.offset_data + m.size for m in tar_file if m.name.endswith(".txt")]
    for length in range(ends[1] // 128 * 128 + 512, ends[-1] + 900, 128):
        path.write_bytes(whole[:length])
        report = validate_shards([path]).shards[0]
        assert report.counts["cut"] == 1 and report.errors == 1
        assert report.intact == sum(length >= end for end in ends), length


def test_a_member_of_too_many_bytes(tmp_path: Path) -> None:
    big = tar(tmp_path / "big.tar", [("a.jpg", bytes((64 << 20) + 1)), ("a.txt", b"x"), *GOOD])
    report = validate_shards([big])
    assert counts(report) == {"large": 1} and report.shards[0].intact == 4


def test_parts_decide_what_is_missing(tmp_path: Path) -> None:
    path = tar(tmp_path / "x.tar", [("a.png", picture()), ("b.txt", b"x")])
    assert counts(validate_shards([path], Checks(parts="images"))) == {"no_picture": 1}
    assert counts(validate_shards([path], Checks(parts="texts"))) == {"no_text": 1}


def test_small_pictures_and_those_that_only_decoding_shows(tmp_path: Path) -> None:
    path = tar(tmp_path / "x.tar", [("a.jpg", picture("JPEG", (90, 90))[:-30]), ("a.txt", b"x"), *GOOD])
    assert counts(validate_shards([path], Checks(decode=False, min_side=9))) == {"small": 4}


def test_a_shard_damaged_in_hundreds_of_places_says_where_it_was_left(tmp_path: Path) -> None:
    content = bytearray(tar(tmp_path / "x.tar", [(f"{i}.txt", b"x") for i in range(900)]).read_bytes())
    for at in range(2048, 900 * 1024, 2048):
        content[at] ^= 1
    (tmp_path / "x.tar").write_bytes(content)
    report = validate_shards([tmp_path / "x.tar"], Checks(parts="texts")).shards[0]
    assert report.counts["header"] == 201 and "not looked at" in report.findings[-1].problem


def test_a_member_that_lies_apart_is_the_one_that_is_named(tmp_path: Path) -> None:
    members = [("a.png", picture()), *GOOD[:2], ("a.txt", b"x")]
    [finding] = validate_shards([tar(tmp_path / "x.tar", members)]).findings
    assert (finding.member, finding.problem) == ("a.txt", "it is not next to a.png")


def test_a_shard_that_cannot_be_read(tmp_path: Path) -> None:
    assert counts(validate_shards([tmp_path / "gone.tar"])) == {"unreadable": 1}


@pytest.fixture
def folder(tmp_path: Path, make_picture: Callable[..., bytes]) -> Path:
    parts = {"png": make_picture(0), "txt": b"x"}
    write_shards([Sample(key=f"{i:09d}", parts=parts) for i in range(5)], tmp_path / "set", 0, 3)
    return tmp_path / "set"


SIDECARS: list[tuple[dict[str, str], dict[str, int]]] = [
    ({"sizes.json": '{"00000.tar": 3, "00001.tar": 2}', "__len__": "5", "00000_stats.json": '{"successes": 3}'}, {}),
    ({"sizes.json": '{"00000.tar": 3, "00001.tar": 4, "00002.tar": 1}'}, {"count": 1, "missing_shard": 1}),
    ({"__len__": "6"}, {"count": 1}),
    ({"__len__": "many"}, {"sidecar": 1}),
    ({"00001_stats.json": '{"successes": 9}'}, {"count": 1}),
    ({"00001_stats.json": "[]", "sizes.json": "{"}, {"sidecar": 2}),
    ({"_info.json": '{"splits": {"train": {"filenames": ["00000.tar", "00001.tar"], "shard_lengths": [3, 2]}}}'}, {}),
    ({"_info.json": '{"splits": {"train": {"filenames": ["00000.tar"], "shard_lengths": [2]}}}'}, {"count": 1}),
    ({"_info.json": '{"splits": {"train": {"filenames": ["00000.tar"], "shard_lengths": [2, 1]}}}'}, {"sidecar": 1}),
    ({"manifest.json": '{"sha256": {"00000.tar": "0"}}', "../manifest.json": '{"sha256": {"set/00001.tar": "1"}}'},
     {"checksum": 2}),
]  # fmt: skip


@pytest.mark.parametrize(("files", "expected"), SIDECARS)
def test_files_beside_shards(folder: Path, files: dict[str, str], expected: dict[str, int]) -> None:
    for name, content in files.items():
        (folder / name).write_text(content)
    assert counts(validate_shards(sorted(folder.glob("*.tar")))) == expected


@pytest.mark.parametrize("beside", [True, False])
def test_bytes_that_changed_without_a_trace_are_found_by_the_index(folder: Path, tmp_path: Path, beside: bool) -> None:
    """One pixel of a PNG's text chunk is no damage to anyone but a checksum; size and time are put back."""
    path = folder / "00001.tar"
    index_shards([Shard(str(path))], None if beside else tmp_path / "cache" / "index")
    before, content = path.stat(), bytearray(path.read_bytes())
    content[content.index(b"\nx", 512) + 1 if b"\nx" in content else content.index(b"x\0\0", 512)] ^= 1
    path.write_bytes(content)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert validate_shards([path]).counts["checksum"] == 1
    os.utime(path, ns=(0, 0))
    assert counts(validate_shards([path])).get("stale_index", 0) == beside


def test_a_damaged_index_is_named(folder: Path) -> None:
    index_path(Shard(str(folder / "00000.tar"))).write_bytes(b"?")
    assert counts(validate_shards([folder / "00000.tar"])) == {"sidecar": 1}


def test_keys_in_several_shards(folder: Path) -> None:
    write_shards([Sample(key="000000004", parts={"txt": b"x"})], folder, 2, 3)
    [finding] = [f for f in validate_shards(sorted(folder.glob("*.tar"))).findings if f.kind == "key_twice"]
    assert (finding.key, Path(finding.shard).name) == ("000000004", "00001.tar")
    assert "00002.tar" in finding.problem


def test_findings_cross_processes(folder: Path) -> None:
    os.truncate(folder / "00000.tar", 3000)
    report = validate_shards(sorted(folder.glob("*.tar")))
    assert as_json(pickle.loads(pickle.dumps(report))) == as_json(report)
    assert list(parallel(math.factorial, [3, 4, 5], workers=2)) == [6, 24, 120]


def test_no_kind_is_untested(whole: bytes) -> None:
    cases = [expected for _, expected, _ in [*CONTENT.values(), *damaged(whole).values()]]
    cases += [expected for _, expected in SIDECARS]
    tested = {kind for expected in cases for kind in expected}
    assert set(KINDS) - tested == {"large", "small", "unreadable", "stale_index", "key_twice"}  # have their own tests


def test_the_text_fits_a_terminal_and_the_json_has_everything(whole: bytes, tmp_path: Path) -> None:
    members = [(f"{i}.{e}", c) for i in range(9) for e, c in (("jpg", b"broken"), ("txt", b"x"))]
    path = tar(tmp_path / "x.tar", members)
    report = validate_shards([path])
    console = Console(width=80, file=io.StringIO(), record=True)
    for line in as_text(report, examples=2):
        console.print(line)
    lines = console.export_text().splitlines()
    assert max(map(len, lines)) <= 80
    text = " ".join(" ".join(lines).split())
    assert "error 9 pictures that cannot be decoded [picture] x.tar 0.jpg at byte 512:" in text
    assert "and 7 more -> Take the samples out" in text
    assert summary(report) == "1 shard, 9 samples, 0 intact; 9 errors, 0 warnings"
    content = json.loads(json.dumps(as_json(report)))
    assert [f["key"] for f in content["findings"]] == [str(i) for i in range(9)]
    assert content["kinds"]["picture"]["count"] == 9 and content["by_shard"][0]["samples"] == 9
