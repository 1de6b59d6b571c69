"""Truth: which samples were broken on purpose, and counting."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest
from mm_mhmoe_data.pipeline import ShardDataset
from mm_mhmoe_data.quarantine import Quarantine, TooManyBadSamples
from mm_mhmoe_data.sampling import Pick
from mm_mhmoe_data.shards import Sample, write_shards

BROKEN = {1, 4, 5}


@pytest.fixture
def dataset(tmp_path: Path, samples: list[Sample]) -> ShardDataset:
    """The first samples, of which some have a picture that is none."""
    parts = [dict(sample.parts) for sample in samples]
    for i in BROKEN:
        parts[i] = {name: b"no picture" if name in ("jpg", "png") else data for name, data in parts[i].items()}
    write_shards([Sample(key=s.key, parts=p) for s, p in zip(samples, parts, strict=True)], tmp_path, 0, 10)
    return ShardDataset(tmp_path)


def read_all(dataset: ShardDataset, quarantine: Quarantine, epochs: int = 2) -> list[Pick]:
    picks = [Pick(epoch, i) for epoch in range(epochs) for i in range(len(dataset))]
    return [quarantine.load(dataset, len(dataset), pick, lambda p: dataset.picture(p.sample))[0] for pick in picks]


def test_a_bad_sample_is_replaced_counted_and_written_down(dataset: ShardDataset, tmp_path: Path) -> None:
    quarantine = Quarantine(tmp_path / "run" / "quarantine.jsonl", max_bad_fraction=0.5)
    used = read_all(dataset, quarantine)
    for (epoch, index), pick in zip([(e, i) for e in range(2) for i in range(len(dataset))], used, strict=True):
        assert pick.epoch == epoch and pick.sample not in BROKEN
        assert pick.sample == index or index in BROKEN
    assert quarantine.used == len(used) == 2 * len(dataset)
    assert quarantine.quarantined >= 2 * len(BROKEN)
    assert quarantine.read == quarantine.used + quarantine.quarantined
    quarantine.check()
    lines = [json.loads(line) for line in (tmp_path / "run" / "quarantine.jsonl").read_text().splitlines()]
    assert sorted(line["key"] for line in lines) == [f"{i:09d}" for i in sorted(BROKEN)]
    for line in lines:
        content = dataset.sample_bytes(int(line["key"]))
        assert line["sha256"] == hashlib.sha256(content).hexdigest() and b"no picture" in content
        assert (
            line["stage"] == "decode" and line["shard"].endswith("00000.tar") and "cannot be decoded" in line["error"]
        )


def test_replacements_are_the_same_in_every_run_and_differ_between_epochs(dataset: ShardDataset) -> None:
    runs = [read_all(dataset, Quarantine(max_bad_fraction=0.5), epochs=6) for _ in range(2)]
    assert runs[0] == runs[1]
    assert len({pick.sample for pick in runs[0][1 :: len(dataset)]}) > 1
    assert runs[0] != read_all(dataset, Quarantine(max_bad_fraction=0.5, seed=1), epochs=6)


def test_too_many_stop_the_run_with_what_to_do(dataset: ShardDataset, tmp_path: Path) -> None:
    quarantine = Quarantine(tmp_path / "q.jsonl", max_bad_fraction=0.002)  # 2 of the first 1,000
    with pytest.raises(TooManyBadSamples, match=r"3 of \d+ samples.*0\.002.*q\.jsonl.*data validate"):
        read_all(dataset, quarantine)


def test_a_run_of_bad_samples_stops_the_run(tmp_path: Path, samples: list[Sample]) -> None:
    bad = [Sample(key=s.key, parts={"png": b"none", "txt": b"x"}) for s in samples]
    write_shards(bad, tmp_path, 0, 100)
    dataset = ShardDataset(tmp_path)
    with pytest.raises(TooManyBadSamples, match=r"5 samples in a row .*cannot be decoded"):
        read_all(dataset, Quarantine(max_bad_fraction=1.0, max_in_a_row=5))


def test_a_lost_sample_is_noticed(dataset: ShardDataset) -> None:
    quarantine = Quarantine()
    quarantine.load(dataset, len(dataset), Pick(0, 0), lambda pick: None)
    quarantine.check()
    with pytest.raises(ZeroDivisionError):  # an error that is no fault of the sample
        quarantine.load(dataset, len(dataset), Pick(0, 0), lambda pick: 1 / 0)
    with pytest.raises(RuntimeError, match="2 samples were read, but 1 used and 0 quarantined"):
        quarantine.check()


@pytest.mark.parametrize("limits", [{"max_bad_fraction": 1.5}, {"max_bad_fraction": -0.1}, {"max_in_a_row": 0}])
def test_limits_that_make_no_sense_are_refused(limits: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=next(iter(limits))):
        Quarantine(**limits)  # type: ignore[arg-type]
