from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from mm_mhmoe_eval.files import write_text_atomic
from mm_mhmoe_eval.results import (
    ResultRecord,
    bootstrap_interval,
    environment,
    git_hash,
    hash_config,
    now,
    read_record,
    sha256_file,
    write_record,
)


def a_record(**changes: object) -> ResultRecord:
    values = {
        "task": "retrieval_openclipart",
        "task_version": 1,
        "model": "main",
        "metrics": {"image_retrieval_recall@10": 0.4},
        "samples": 500,
        "seed": 1,
        "config": {"model": {"dim": 192}, "limit": None},
        "intervals": {"image_retrieval_recall@10": [0.3, 0.5]},
        "environment": environment(),
        "date": now(),
    }
    return ResultRecord(**{**values, **changes})  # type: ignore[arg-type]


def test_round_trip(tmp_path: Path) -> None:
    record = a_record()
    write_record(record, tmp_path / "deep" / "record.json")
    assert read_record(tmp_path / "deep" / "record.json") == record
    assert [path.name for path in (tmp_path / "deep").iterdir()] == ["record.json"]


def test_config_hash_is_of_the_config() -> None:
    assert a_record(config={"a": 1, "b": 2}).config_hash == a_record(config={"b": 2, "a": 1}).config_hash
    assert hash_config({"a": 1}) != hash_config({"a": 2})
    with pytest.raises(ValueError, match="config_hash"):
        a_record(config_hash="0" * 12)


def test_metrics_must_be_numbers() -> None:
    with pytest.raises(ValueError, match="finite"):
        a_record(metrics={"vqa": float("nan")})


def write_changed(path: Path, **changes: object) -> None:
    write_record(a_record(), path)
    values = {**json.loads(path.read_text()), **changes}
    path.write_text(json.dumps({key: value for key, value in values.items() if value != "drop"}))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"task": "drop"}, "lacks task"),
        ({"more": 1}, "unknown more"),
        ({"format": 99}, "format=99"),
        ({"samples": "many"}, "samples"),
        ({"samples": True}, "samples"),
        ({"metrics": {"vqa": "good"}}, "metrics.vqa"),
        ({"config": {}}, "config_hash"),
    ],
)
def test_malformed_records_are_named(tmp_path: Path, changes: dict[str, object], message: str) -> None:
    path = tmp_path / "record.json"
    write_changed(path, **changes)
    with pytest.raises(ValueError, match=message) as error:
        read_record(path)
    assert str(path) in str(error.value)


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"\xff\xfe"])
def test_no_record_at_all(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "record.json"
    path.write_bytes(content)
    with pytest.raises(ValueError, match="not a result record"):
        read_record(path)


def test_a_failed_write_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "file.txt"
    write_text_atomic(path, "old")
    with pytest.raises(UnicodeEncodeError):
        write_text_atomic(path, "new \ud800")
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_git_hash_outside_a_checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    assert git_hash(tmp_path) is None


def test_sha256(tmp_path: Path) -> None:
    (tmp_path / "f").write_bytes(b"abc")
    # FIPS 180-2, appendix B.1.
    assert sha256_file(tmp_path / "f") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


def test_bootstrap_covers_the_mean() -> None:
    values = [1.0] * 40 + [0.0] * 60
    low, high = bootstrap_interval(values, seed=0, draws=2000)
    # Normal approximation: 0.4 +- 1.96 sqrt(0.24 / 100) = 0.304 .. 0.496
    assert low == pytest.approx(0.304, abs=0.02)
    assert high == pytest.approx(0.496, abs=0.02)
    assert bootstrap_interval(values, seed=0) == bootstrap_interval(values, seed=0)
    assert bootstrap_interval([0.5] * 5, seed=0) == (0.5, 0.5)
    low, high = bootstrap_interval(values, seed=0, statistic=lambda drawn: drawn.amax(1))
    assert (low, high) == (1.0, 1.0)
    state = torch.get_rng_state()
    bootstrap_interval(values, seed=3)
    assert torch.equal(state, torch.get_rng_state())
    with pytest.raises(ValueError, match="bootstrap"):
        bootstrap_interval([], seed=0)
