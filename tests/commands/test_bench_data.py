"""The command on a few made-up samples: its tables and its record hold a row for every contestant."""

from __future__ import annotations

import io
import json
from pathlib import Path

import numpy as np
import pytest
from mm_mhmoe_data.shards import Sample, write_shards
from PIL import Image

from mm_mhmoe.commands import bench_data


def jpeg(seed: int) -> bytes:
    out = io.BytesIO()
    Image.fromarray(np.random.default_rng(seed).integers(0, 256, (40, 40, 3), dtype=np.uint8)).save(out, "JPEG")
    return out.getvalue()


@pytest.fixture
def shards(tmp_path: Path) -> Path:
    samples = [
        Sample(key=f"{i}", parts={"jpg": jpeg(i), "txt": f"a star and house number {i}".encode()}) for i in range(12)
    ]
    write_shards(samples, tmp_path / "shards", 0, 12)
    return tmp_path / "shards"


def test_every_contestant_has_a_row(shards: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "speed.json"
    bench_data.data(str(shards), workers=[0], batch_size=3, image_size=32, samples=1, busy_cores=100.0, out=out)
    record = json.loads(out.read_text())
    assert set(record["parts"]) == {"read", "index", "decode", "resize"}
    assert set(record["loaders"]["0"]) == set(bench_data.LOADERS)
    printed = capsys.readouterr().out
    assert all(name in printed for name in bench_data.LOADERS)
    for row in [*record["loaders"]["0"].values(), *record["parts"]["index"].values()]:
        assert row["samples"] == 1 and row["samples_per_second"] > 0


def test_a_busy_machine_is_said_to_be_busy(shards: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter(range(10_000))
    monkeypatch.setattr(bench_data, "other_cpu_seconds", lambda: float(next(clock)))  # a second of others' in each run
    monkeypatch.setattr(bench_data, "LOADERS", {name: bench_data.decode_only for name in bench_data.LOADERS})
    work = bench_data.Work(shards=[shards / "00000.tar"], tokenizer=None, batch_size=3)  # type: ignore[arg-type]
    rows = bench_data._time_loaders(work, 0, 3, 1, 0.25)
    assert {(row["samples"], row["dropped"]) for row in rows.values()} == {(0, 4)}
    assert bench_data._loader_table(0, rows).row_count == len(rows)


def test_impossible_options_are_refused(shards: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="samples=0"):
        bench_data.data(str(shards), samples=0)
    with pytest.raises(ValueError, match="--cache"):
        bench_data.data(pictures=tmp_path)
    with pytest.raises(ValueError, match="12 pictures"):
        bench_data.data(str(shards), batch_size=12)
