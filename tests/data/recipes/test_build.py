"""Truth: files written out by hand, SHA-256 by hashlib, and a build that nobody stopped. All data are made up."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from mm_mhmoe_data.recipes.build import Dropped, Plan, ShardJob, run_plan, sample_key, shard_jobs
from mm_mhmoe_data.recipes.state import STATE, BuildState
from mm_mhmoe_data.shards import Sample, check_shard

CALLS: list[int] = []


def numbers(shard: int, records: list[int]) -> Iterator[Sample | Dropped]:
    """A text for each number; multiples of five cannot be used."""
    CALLS.append(shard)
    for index, record in enumerate(records):
        if record % 5 == 0:
            yield Dropped(reason="multiple of five", what=str(record))
        else:
            yield Sample(key=sample_key(shard, index), parts={"txt": f"number {record}".encode()})


def plan(**changes: object) -> Plan:
    values: dict[str, object] = {
        "recipe": "numbers",
        "arguments": {"most": 23},
        "jobs": shard_jobs({"train": list(range(1, 21)), "val": [21, 22, 23]}, numbers, 4),
        "files": {"extra/hello.txt": lambda: b"hello\n"},
        "facts": {"source": {"name": "nature"}, "licence": "none needed"},
        "dropped": [Dropped(reason="not a number", what="zero")],
        "expected": {"train": 16, "val": 4},
    }
    return Plan(**(values | changes))  # type: ignore[arg-type]


def one_job(make: Callable[[], Iterator[Sample]]) -> Plan:
    return plan(jobs=[ShardJob(path="train/00000.tar", make=make)])


def test_everything_is_written_and_counted(build) -> None:
    built = build(plan())
    usable = [n for n in range(1, 21) if n % 5]
    assert built.texts("train") == [f"number {n}" for n in usable]
    assert [s.key for s in built.samples("val")] == ["000050000", "000050001", "000050002"]  # numbers run on
    sizes = {f"{i:05d}.tar": sum(n % 5 > 0 for n in range(4 * i + 1, 4 * i + 5)) for i in range(5)}
    assert json.loads((built.out / "train/sizes.json").read_text()) == sizes
    splits = built.manifest["splits"]
    assert splits["train"] == {"samples": 16, "shards": sizes} and splits["val"]["samples"] == 3
    assert built.manifest["dropped"] == {"multiple of five": 4, "not a number": 1}
    assert built.manifest["expected"]["train"] == {"expected": 16, "found": 16}
    assert built.manifest["expected"]["val"] == {"expected": 4, "found": 3}
    assert (built.out / "extra/hello.txt").read_text() == "hello\n"
    assert built.dropped[:2] == [
        {"reason": "not a number", "what": "zero", "shard": None},
        {"reason": "multiple of five", "what": "5", "shard": "train/00001.tar"},
    ]
    card = (built.out / "README.md").read_text()
    assert "| val | 4 | 3 | differs |" in card and "none needed" in card and "$" not in card


def test_the_manifest_holds_the_digest_of_every_other_file(build) -> None:
    built = build(plan())
    found = {name: digest for name, digest in built.digests().items() if name not in ("manifest.json", STATE)}
    assert built.manifest["sha256"] == found


def test_a_shard_of_nothing_but_drops_has_no_file(build) -> None:
    built = build(plan(jobs=shard_jobs({"train": [1, 2, 5, 10, 3, 4]}, numbers, 2)))
    assert json.loads((built.out / "train/sizes.json").read_text()) == {"00000.tar": 2, "00002.tar": 2}
    assert not (built.out / "train/00001.tar").exists() and len(built.dropped) == 3
    CALLS.clear()
    build(plan(jobs=shard_jobs({"train": [1, 2, 5, 10, 3, 4]}, numbers, 2)))
    assert CALLS == []  # and it is not tried again


def test_an_interrupted_build_goes_on(build, tmp_path: Path) -> None:
    def interrupted(shard: int, records: list[int]) -> Iterator[Sample | Dropped]:
        for sample in numbers(shard, records):
            yield sample
            if shard == 3:
                raise KeyboardInterrupt

    whole = build(plan(), "whole")
    jobs = shard_jobs({"train": list(range(1, 21)), "val": [21, 22, 23]}, interrupted, 4)
    with pytest.raises(KeyboardInterrupt):
        build(plan(jobs=jobs))
    names = sorted(p.name for p in (tmp_path / "out/train").iterdir())
    assert names == ["00000.tar", "00001.tar", "00002.tar"]
    CALLS.clear()
    assert build(plan()).digests() == whole.digests()
    assert CALLS == [3, 4, 5]


def long_texts(shard: int, records: list[int]) -> Iterator[Sample | Dropped]:
    """So long that the end of a shard is far from its beginning."""
    for sample in numbers(shard, records):
        yield Sample(key=sample.key, parts={"txt": b"x" * 100_000}) if isinstance(sample, Sample) else sample


@pytest.mark.parametrize("harm", ["cut", "other bytes at the end", "gone"])
def test_a_finished_shard_is_not_trusted_blindly(build, tmp_path: Path, harm: str) -> None:
    long = plan(jobs=shard_jobs({"train": list(range(1, 21))}, long_texts, 4))
    before = build(long).digests()
    shard = tmp_path / "out/train/00002.tar"
    if harm == "gone":
        shard.unlink()
    else:
        content = shard.read_bytes()
        shard.write_bytes(content[:-512] + (b"" if harm == "cut" else b"x" * 512))
    CALLS.clear()
    assert build(long).digests() == before
    assert CALLS == [2]


def test_a_line_that_was_cut_by_a_kill_costs_one_shard(build, tmp_path: Path) -> None:
    before = build(plan()).digests()
    state = tmp_path / "out" / STATE
    state.write_bytes(state.read_bytes()[:-20])
    (tmp_path / "out/train/.00001.tar.17.tmp").write_bytes(b"half a shard")
    CALLS.clear()
    assert build(plan()).digests() == before
    assert CALLS == [5]


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"arguments": {"most": 24}}, "its most is 23, now 24"),
        ({"recipe": "letters"}, "its recipe is 'numbers', now 'letters'"),
        ({"facts": {"source": {"name": "art"}}}, "its name is 'nature', now 'art'"),
    ],
)
def test_another_build_in_the_same_folder_is_refused(build, change: dict[str, object], told: str) -> None:
    before = build(plan()).digests()
    with pytest.raises(ValueError, match=told):
        build(plan(**change))
    assert build(plan()).digests() == before


def test_a_folder_with_other_files_is_refused(build, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out/mine.txt").write_text("precious")
    with pytest.raises(ValueError, match=r"holds files that no build left there\. Give a new folder"):
        build(plan())
    (tmp_path / "out" / STATE).write_text("gibberish\n")
    with pytest.raises(ValueError, match=r"\.build\.jsonl is damaged"):
        build(plan())
    assert (tmp_path / "out/mine.txt").read_text() == "precious"


def test_two_builds_at_once_are_refused(build, tmp_path: Path) -> None:
    with BuildState(tmp_path / "out", {}), pytest.raises(ValueError, match="another build writes there"):
        build(plan())


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (
            ValueError("annotations.json, line 7: no caption."),
            r"train/00000.tar, after sample a: annotations.json, line 7",
        ),
        (KeyError("image_id"), r"train/00000.tar, after sample a: the source is not as .* \(KeyError: 'image_id'\)"),
        (FileNotFoundError(2, "No such file", "/source/7.jpg"), r"train/00000.tar: .*No such file.*/source/7.jpg"),
    ],
)
def test_errors_name_the_place(build, error: Exception, told: str) -> None:
    def make() -> Iterator[Sample]:
        yield Sample(key="a", parts={"txt": b"a"})
        raise error

    with pytest.raises(ValueError, match=told):
        build(one_job(make))


@pytest.mark.parametrize(
    ("keys", "told"), [(["a", "b", "a"], "'a' comes twice"), (["a.b"], "'a.b' with 'txt' is no key")]
)
def test_keys_that_shards_cannot_hold_are_refused(build, keys: list[str], told: str) -> None:
    with pytest.raises(ValueError, match=told):
        build(one_job(lambda: iter([Sample(key=key, parts={"txt": b"x"}) for key in keys])))


def test_a_source_of_which_nothing_is_usable_is_an_error(build) -> None:
    with pytest.raises(ValueError, match=r"Nothing .* can be used: multiple of five \(2\), not a number \(1\)"):
        build(plan(jobs=shard_jobs({"train": [5, 10]}, numbers, 2)))
    with pytest.raises(ValueError, match="holds no samples"):
        build(plan(jobs=[]))


@pytest.mark.parametrize("size", [0, 10_001])
def test_a_shard_holds_what_a_key_can_count(size: int) -> None:
    with pytest.raises(ValueError, match=f"samples_per_shard={size}"):
        shard_jobs({"train": [1]}, numbers, size)


SLOW = """
import signal, sys, time
from functools import partial
from pathlib import Path
from mm_mhmoe_data.recipes.build import Plan, run_plan, sample_key, shard_jobs
from mm_mhmoe_data.shards import Sample

def make(hurry, shard, records):
    for index in range(200):
        if shard >= records[0] and not hurry.exists():
            time.sleep(0.05)
        yield Sample(key=sample_key(shard, index), parts={"txt": f"{shard} {index}".encode()})

def plan(hurry, first_slow):
    jobs = shard_jobs({"train": [first_slow] * 5, "val": [first_slow]}, partial(make, hurry), 1)
    return Plan(recipe="slow", arguments={}, jobs=jobs)

if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background commands inherit that it is ignored
    run_plan(plan(Path(sys.argv[1]), int(sys.argv[2])), Path(sys.argv[3]), workers=2)
"""


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="finds workers in /proc")
def test_really_killed_builds_go_on_to_the_same_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two workers; stopped with Ctrl-C, then with kill -9, each time in the middle of shards; then finished by one."""
    (tmp_path / "slow_recipe.py").write_text(SLOW)
    monkeypatch.syspath_prepend(tmp_path)
    import slow_recipe  # type: ignore[import-not-found]

    hurry, out = tmp_path / "hurry", tmp_path / "out"
    told = stop_after(2, signal.SIGINT, tmp_path, out)
    assert told.count("Traceback") == 1  # the command's own, none from a worker
    assert list(out.rglob("*.tmp")) == []
    first = whole_shards(out)
    stop_after(4, signal.SIGKILL, tmp_path, out)
    second = whole_shards(out)
    assert len(first) == 2 and len(second) == 4 and first.items() <= second.items()  # not written again
    hurry.touch()
    run_plan(slow_recipe.plan(hurry, 0), out, workers=1, progress=lambda *_: None)
    assert second.items() <= whole_shards(out).items() and len(whole_shards(out)) == 6
    run_plan(slow_recipe.plan(hurry, 0), tmp_path / "whole", workers=1, progress=lambda *_: None)
    assert contents(out) == contents(tmp_path / "whole")


def stop_after(shards: int, how: signal.Signals, folder: Path, out: Path) -> str:
    """Builds with slow shards from number `shards` on, and stops that when the others are finished."""
    words = [sys.executable, folder / "slow_recipe.py", folder / "hurry", str(shards), out]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    process = subprocess.Popen(words, env=environment, start_new_session=True, stderr=subprocess.PIPE, text=True)
    state = out / STATE
    wait_until(lambda: state.exists() and len(state.read_text().splitlines()) == 1 + shards)
    wait_until(lambda: bool(list(out.rglob("*.tmp"))))
    workers = children(process.pid)
    if how == signal.SIGINT:
        os.killpg(process.pid, how)  # as a terminal does
    else:
        process.kill()
    _, told = process.communicate(timeout=60)
    assert process.returncode != 0 and not (out / "manifest.json").exists()
    wait_until(lambda: not any(map(runs, workers)))  # nobody stays behind
    return told


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 120
    while not condition():
        assert time.monotonic() < deadline, "nothing happened for two minutes"
        time.sleep(0.01)


def runs(pid: int) -> bool:
    """Whether a process is there and is not only waiting for somebody to take note of its end."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return False


def children(pid: int) -> list[int]:
    return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def whole_shards(out: Path) -> dict[str, int]:
    """When each shard was written; all are whole."""
    shards = sorted(out.rglob("*.tar"))
    assert all(check_shard(path) == 200 for path in shards)
    return {path.name: path.stat().st_mtime_ns for path in shards}


def contents(folder: Path) -> dict[str, str]:
    files = (path for path in sorted(folder.rglob("*")) if path.is_file())
    return {path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}
