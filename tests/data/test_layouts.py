"""Batches of the real data modules for any number of processes and workers. Truth: one process without workers."""

from __future__ import annotations

import json
import shutil
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from mm_mhmoe_data.config import DataConfig
from mm_mhmoe_data.datamodules import PairDataModule, PretrainDataModule, VQADataModule
from mm_mhmoe_data.pipeline import ShardDataset
from mm_mhmoe_data.quarantine import TooManyBadSamples
from mm_mhmoe_data.shards import Sample, write_shards
from mm_mhmoe_data.tokenizer import Tokenizer
from mm_mhmoe_data.vqa_data import VQAExample

from mm_mhmoe.config import TextConfig, VisionConfig

STEPS, GLOBAL_BATCH = 7, 8
STREAMS = ("images", "texts", "pairs")


class Places:
    """Makes the data modules of all ranks of a run, and what each of them is served."""

    def __init__(self, *parts: Any) -> None:
        self.parts = parts

    def module(self, shards: Path | str, *, rank: int = 0, world: int = 1, **changes: Any) -> PretrainDataModule:
        sizes = {f"batch_{name}": GLOBAL_BATCH // world for name in STREAMS}
        data = PretrainDataModule(str(shards), *self.parts, **{**sizes, "num_steps": STEPS, **changes})
        data.trainer = SimpleNamespace(global_rank=rank, world_size=world)  # type: ignore[assignment]
        data.setup("fit")
        return data

    def served(self, shards: Path | str, *, world: int = 1, **changes: Any) -> list[dict[str, Any]]:
        """For every step and stream the rows of all ranks, in the order in which one process would have them."""
        loaders = [iter(self.module(shards, rank=r, world=world, **changes).train_dataloader()) for r in range(world)]
        steps = []
        for batches in zip(*loaders, strict=True):
            step = {}
            for name in STREAMS:
                rows = [list(_rows(getattr(batch, name))) for batch in batches]
                step[name] = [row for group in zip(*rows, strict=True) for row in group]
            steps.append(step)
        return steps


def _rows(stream: Any) -> Iterator[tuple[Any, ...]]:
    for i, key in enumerate(stream.keys):
        row: list[Any] = [key]
        if stream.images is not None:
            row += [stream.images.pixels_BCHW[i].clone().numpy().tobytes(), tuple(stream.images.masked_BN[i].tolist())]
        if stream.texts is not None:
            valid = stream.texts.valid_BL[i]
            row += [tuple(stream.texts.ids_BL[i][valid].tolist()), tuple(stream.texts.masked_BL[i][valid].tolist())]
        yield tuple(row)


@pytest.fixture(scope="session")
def places(tokenizer: Tokenizer, vision: VisionConfig, text: TextConfig) -> Places:
    return Places(tokenizer, vision, text)


@pytest.fixture(scope="session")
def alone(places: Places, shards: Path) -> list[dict[str, Any]]:
    return places.served(shards, data=DataConfig(window=9))


@pytest.mark.parametrize(("world", "workers"), [(1, 4), (2, 2), (4, 1), (1, 1), (2, 0)])
def test_processes_and_workers_change_nothing(
    places: Places, shards: Path, alone: list[dict[str, Any]], world: int, workers: int
) -> None:
    assert places.served(shards, world=world, workers=workers, data=DataConfig(window=9)) == alone


def test_an_epoch_of_a_stream_has_every_sample_once(alone: list[dict[str, Any]], shards: Path) -> None:
    keys = [row[0] for step in alone for row in step["pairs"]]
    assert sorted(keys[:23]) == list(ShardDataset(shards).keys) == sorted(keys[23:46])


@pytest.fixture
def broken(tmp_path: Path, samples: list[Sample]) -> Path:
    """Every fifth picture is none, one text is no UTF-8, one sample has no text, one has text alone."""
    parts = [dict(sample.parts) for sample in samples]
    for i in (3, 8, 13):
        parts[i] = {"jpg": b"\xff\xd8\xff broken", "txt": parts[i]["txt"]}
    parts[5]["txt"] = b"\xff\xfe"
    del parts[6]["txt"]
    parts[7] = {"txt": b"only a text"}
    folder = tmp_path / "broken"
    write_shards([Sample(key=s.key, parts=p) for s, p in zip(samples, parts, strict=True)], folder, 0, 10)
    return folder


@pytest.mark.parametrize("workers", [0, 2])
def test_bad_samples_are_replaced_in_full_batches(places: Places, broken: Path, tmp_path: Path, workers: int) -> None:
    listed = tmp_path / "quarantine.jsonl"
    config = DataConfig(max_bad_fraction=0.9)
    data = places.module(broken, workers=workers, data=config, quarantine=listed)
    batches = list(data.train_dataloader())
    assert [len(getattr(batch, name)) for batch in batches for name in STREAMS] == [GLOBAL_BATCH] * 3 * STEPS
    lines = [json.loads(line) for line in listed.read_text().splitlines()]
    assert {(line["key"], line["stage"]) for line in lines} == {
        ("000000003", "decode"),
        ("000000008", "decode"),
        ("000000013", "decode"),
        ("000000005", "text"),
    }
    used = {name: {key for batch in batches for key in getattr(batch, name).keys} for name in STREAMS}
    assert not used["pairs"] & {f"{i:09d}" for i in (3, 5, 6, 7, 8, 13)}
    assert "000000006" in used["images"] and "000000007" in used["texts"]  # each stream takes what it can use
    assert data.quarantine.used == 3 * GLOBAL_BATCH * STEPS
    assert data.quarantine.read == data.quarantine.used + data.quarantine.quarantined
    again = places.served(broken, workers=2 - workers, data=config)
    assert [row[0] for row in again[3]["pairs"]] == list(batches[3].pairs.keys)


@pytest.mark.parametrize("workers", [0, 2])
def test_too_many_bad_samples_are_one_sentence(places: Places, broken: Path, workers: int) -> None:
    data = places.module(broken, workers=workers, data=DataConfig(max_bad_fraction=0.001))
    with pytest.raises(TooManyBadSamples, match=r"^\d+ of \d+ samples read cannot be used, more than max_bad_fraction"):
        list(data.train_dataloader())


def test_sources_have_their_weights(places: Places, shards: Path, tmp_path: Path, samples: list[Sample]) -> None:
    other = tmp_path / "other"
    write_shards([Sample(key=f"other{i}", parts=s.parts) for i, s in enumerate(samples[:5])], other, 0, 10)
    data = DataConfig(weights="1::3")
    sizes = {"batch_images": 0, "batch_texts": 0, "batch_pairs": 100, "num_steps": 20}
    found = Counter(
        key.startswith("other")
        for batch in places.module(f"{shards}::{other}", data=data, **sizes).train_dataloader()
        for key in batch.pairs.keys
    )
    assert abs(found[True] / 2000 - 0.75) < 0.03
    flat = [
        key
        for batch in places.module(
            f"{shards}::{other}", **{**sizes, "batch_pairs": 28, "num_steps": 1}
        ).train_dataloader()
        for key in batch.pairs.keys
    ]
    assert len(set(flat)) == 28  # without weights, one epoch has each sample of both once


def test_weights_by_tokens(places: Places, tmp_path: Path, samples: list[Sample]) -> None:
    """One source's texts have one word, the other's as many as fit."""
    for name, text in (("short", b"red"), ("long", b"red green blue star house tree small large bird with a on")):
        write_shards(
            [Sample(key=f"{name}{i}", parts={"txt": text}) for i, _ in enumerate(samples)], tmp_path / name, 0, 10
        )
    data = DataConfig(weights="1::1", mix_by="tokens")
    sizes = {"batch_images": 0, "batch_texts": 100, "batch_pairs": 0, "num_steps": 20}
    tokens: Counter[str] = Counter()
    for batch in places.module(f"{tmp_path / 'short'}::{tmp_path / 'long'}", data=data, **sizes).train_dataloader():
        for key, valid in zip(batch.texts.keys, batch.texts.texts.valid_BL, strict=True):
            tokens[key[:4]] += int(valid.sum())
    assert tokens["shor"] == pytest.approx(tokens["long"], rel=0.1)


def test_streams_may_have_shards_of_their_own(places: Places, shards: Path, tmp_path: Path) -> None:
    write_shards([Sample(key=f"t{i}", parts={"txt": b"red star"}) for i in range(9)], tmp_path / "texts", 0, 10)
    picture = {"png": ShardDataset(shards, "images").image_bytes(1)}
    write_shards([Sample(key=f"i{i}", parts=picture) for i in range(9)], tmp_path / "images", 0, 10)
    data = DataConfig(image_shards=str(tmp_path / "images"), text_shards=str(tmp_path / "texts"))
    for batch in places.module(shards, data=data).train_dataloader():
        assert {key[0] for key in batch.images.keys} == {"i"} and {key[0] for key in batch.texts.keys} == {"t"}
        assert {key[0] for key in batch.pairs.keys} == {"0"}


def test_buckets_pad_less_and_keep_the_samples_of_a_step(places: Places, shards: Path) -> None:
    def texts(world: int, bucket: bool) -> tuple[list[Counter[str]], int]:
        places_, steps = 0, [Counter[str]() for _ in range(4)]
        for rank in range(world):
            data = DataConfig(bucket_texts=bucket)
            module = places.module(shards, rank=rank, world=world, data=data, accumulate=2, num_steps=8)
            for i, batch in enumerate(module.train_dataloader()):
                steps[i // 2].update(batch.texts.keys)
                places_ += batch.texts.texts.ids_BL.numel()
        return steps, places_

    plain, buckets, two = texts(1, False), texts(1, True), texts(2, True)
    assert plain[0] == buckets[0] == two[0]
    assert buckets[1] <= plain[1]


def test_a_question_whose_picture_is_bad_is_replaced_by_another_question(
    broken: Path, tokenizer: Tokenizer, vision: VisionConfig, text: TextConfig
) -> None:
    examples = [
        VQAExample(
            question_id=i,
            image_id=i % 5,
            question="what bird",
            question_type="what",
            answer_type="other",
            answers=("red",) * 10,
            top_answer="red",
        )
        for i in range(20)
    ]
    data = VQADataModule(
        broken, examples, ["red"], tokenizer, vision, text, batch_size=10, num_steps=4,
        data=DataConfig(max_bad_fraction=0.5),
    )  # fmt: skip
    data.setup("fit")
    batches = list(data.train_dataloader())
    assert all(len(batch.pairs) == 10 and len(batch.question_ids) == 10 for batch in batches)
    assert all(number % 5 != 3 for batch in batches for number in batch.question_ids)
    assert all(
        int(key) == number % 5
        for batch in batches
        for key, number in zip(batch.pairs.keys, batch.question_ids, strict=True)
    )
    assert data.quarantine.quarantined


def test_random_changes_are_those_that_were_asked_for(
    shards: Path, tokenizer: Tokenizer, vision: VisionConfig, text: TextConfig
) -> None:
    def pixels(**options: Any) -> torch.Tensor:
        config = DataConfig(**options)
        data = PairDataModule(
            shards, tokenizer, vision, text, task="retrieval", batch_size=16, num_steps=1, min_scale=1.0, data=config
        )
        data.setup("fit")
        (batch,) = data.train_dataloader()
        return batch.images.pixels_BCHW.float()

    plain, flipped, jittered = pixels(), pixels(flip="on"), pixels(color_jitter=0.4)
    turned = (flipped == plain.flip(-1)).flatten(1).all(1)
    assert 2 <= turned.sum() <= 14 and ((flipped == plain).flatten(1).all(1) | turned).all()
    assert (pixels(flip="caption") != plain).flatten(1).any(1).sum() <= turned.sum()
    assert (jittered != plain).flatten(1).any(1).all()


@pytest.mark.parametrize(("world", "workers"), [(1, 0), (1, 2), (2, 1)])
def test_streamed_shards_give_full_batches_of_whole_epochs(
    places: Places, shards: Path, samples: list[Sample], world: int, workers: int
) -> None:
    """23 samples in three shards; each reader goes through its own ones again and again."""
    data = DataConfig(mode="stream", buffer=4)
    steps = places.served(shards, world=world, workers=workers, data=data)
    texts = {sample.key: sample.parts["txt"].decode() for sample in samples}
    assert all(len(step[name]) == GLOBAL_BATCH for step in steps for name in STREAMS)
    assert all(row[0] in texts for step in steps for name in STREAMS for row in step[name])
    assert len({row[0] for step in steps for row in step["pairs"]}) == 23
    if world == 1 and workers == 0:
        keys = [row[0] for step in steps for row in step["texts"]]
        assert len(set(keys[:23])) == len(set(keys[23:46])) == 23 and keys[:23] != keys[23:46]
        assert places.served(shards, data=data) == steps


def test_a_resumed_stream_goes_on_with_other_shards_first(places: Places, shards: Path) -> None:
    def first(start: int) -> tuple[str, ...]:
        data = places.module(shards, data=DataConfig(mode="stream", buffer=0))
        data.load_state_dict({"batches": start})
        return next(iter(data.train_dataloader())).pairs.keys

    assert len({first(start) for start in range(5)}) > 1


@pytest.mark.parametrize("workers", [0, 2])
def test_bad_streamed_samples_are_passed_over_and_written_down(
    places: Places, broken: Path, tmp_path: Path, workers: int
) -> None:
    listed = tmp_path / "quarantine.jsonl"
    config = DataConfig(mode="stream", buffer=4, max_bad_fraction=0.9)
    data = places.module(broken, workers=workers, data=config, quarantine=listed)
    batches = list(data.train_dataloader())
    assert [len(getattr(batch, name)) for batch in batches for name in STREAMS] == [GLOBAL_BATCH] * 3 * STEPS
    lines = [json.loads(line) for line in listed.read_text().splitlines()]
    assert {line["key"] for line in lines} == {"000000003", "000000005", "000000008", "000000013"}
    assert not {key for batch in batches for key in batch.pairs.keys} & {line["key"] for line in lines}
    assert data.quarantine.read == data.quarantine.used + data.quarantine.quarantined


def test_more_readers_than_streamed_shards_are_refused(places: Places, shards: Path) -> None:
    with pytest.raises(ValueError, match=r"of 3 shards: each process and worker needs a shard of its own"):
        places.served(shards, workers=4, data=DataConfig(mode="stream"))


def test_excluded_samples_never_come(
    places: Places, shards: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The file is that of `mm-mhmoe data overlap --exclude`."""
    listed = tmp_path / "exclude.tsv"
    gone = [f"{i:09d}" for i in (0, 9, 10, 22)]
    listed.write_text("".join(f"{shards}/0000{int(key) // 10}.tar\t{key}\n" for key in gone))
    steps = places.served(shards, data=DataConfig(exclude=str(listed)))
    for name in STREAMS:
        keys = [row[0] for step in steps for row in step[name]]
        assert sorted(keys[:19]) == sorted(set(ShardDataset(shards).keys) - set(gone))
    moved = shutil.copytree(shards, tmp_path / "moved")
    capsys.readouterr()
    places.module(shards, data=DataConfig(exclude=str(listed), text_shards=str(moved)))
    said = [line.split()[1:3] for line in capsys.readouterr().out.splitlines() if "exclude.tsv names them" in line]
    assert said == [["4", "pairs"], ["0", "texts"]]  # pictures are those of the pairs
    with pytest.raises(ValueError, match=r"names none of this run's shards.*00000\.tar"):
        places.module(moved, data=DataConfig(exclude=str(listed)))
    with pytest.raises(ValueError, match="is no file"):
        places.module(shards, data=DataConfig(exclude=str(tmp_path / "nothing")))
    with pytest.raises(ValueError, match="or exclude"):
        DataConfig(mode="stream", exclude=str(listed))
    with pytest.raises(ValueError, match=r"reads no \.json"):
        DataConfig(mode="stream", captions="languages")
    listed.write_text("000000001\n")
    with pytest.raises(ValueError, match=r"exclude\.tsv, line 1: '000000001' is not a shard, a tab and a key"):
        places.module(shards, data=DataConfig(exclude=str(listed)))
