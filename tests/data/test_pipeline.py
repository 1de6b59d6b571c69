from __future__ import annotations

import io
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from mm_mhmoe_data import pipeline
from mm_mhmoe_data.pipeline import Parts, ShardDataset
from mm_mhmoe_data.shards import Sample, ShardError, write_shards
from PIL import Image
from torch.utils.data import DataLoader, Dataset

Write = Callable[..., Path]


class _Sums(Dataset):
    def __init__(self, dataset: ShardDataset) -> None:
        self.dataset = dataset

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int) -> tuple[str, int]:
        return self.dataset.caption(index), int(self.dataset.picture(index).sum())


def test_samples_come_in_shard_order(shards: Path, samples: list[Sample]) -> None:
    dataset = ShardDataset(shards)
    assert list(dataset.keys) == [sample.key for sample in samples]
    assert len(dataset) == len(samples)
    for index, sample in enumerate(samples):
        assert dataset.caption(index) == sample.parts["txt"].decode()


def test_pictures_are_those_that_were_written(shards: Path, samples: list[Sample]) -> None:
    dataset = ShardDataset(shards)
    for index in (0, 1, len(samples) - 1):
        parts = samples[index].parts
        expected = np.asarray(Image.open(io.BytesIO(parts.get("png") or parts["jpg"])).convert("RGB"))
        picture = dataset.picture(index)
        assert picture.dtype == torch.uint8 and picture.shape == (3, 40, 48)
        assert np.array_equal(picture.permute(1, 2, 0).numpy(), expected)


def test_a_list_a_glob_and_a_directory_are_the_same(shards: Path) -> None:
    keys = list(ShardDataset(shards).keys)
    assert list(ShardDataset(sorted(shards.glob("*.tar"))).keys) == keys
    assert list(ShardDataset(f"{shards}/*.tar").keys) == keys
    assert list(ShardDataset(f"{shards}/{{00000..00002}}.tar").keys) == keys


@pytest.mark.parametrize("workers", [0, 2])
def test_workers_read_the_same(shards: Path, workers: int) -> None:
    dataset = ShardDataset(shards)
    expected = [_Sums(dataset)[i] for i in range(len(dataset))]  # opens the shards before the workers are forked
    loader = DataLoader(_Sums(dataset), batch_size=None, shuffle=False, num_workers=workers)
    assert [(caption, int(total)) for caption, total in loader] == expected


def test_a_pickled_set_reads_on(shards: Path) -> None:
    dataset = ShardDataset(shards)
    dataset.caption(0)
    other = pickle.loads(pickle.dumps(dataset))
    assert other.caption(3) == dataset.caption(3)


def test_transparency_becomes_white(write_shard: Write) -> None:
    out = io.BytesIO()
    Image.new("RGBA", (4, 4), (255, 0, 0, 0)).save(out, format="PNG")
    assert (ShardDataset(write_shard(png=out.getvalue(), txt=b"x")).picture(0) == 255).all()


@pytest.mark.parametrize(("mode", "value"), [("L", 90), ("P", 3), ("1", 1), ("LA", (90, 255)), ("I;16", 256)])
def test_every_mode_becomes_rgb(write_shard: Write, mode: str, value: int) -> None:
    out = io.BytesIO()
    Image.new(mode, (6, 5), value).save(out, format="PNG")
    assert ShardDataset(write_shard(png=out.getvalue(), txt=b"x")).picture(0).shape == (3, 5, 6)


@pytest.fixture
def uneven(tmp_path: Path) -> Path:
    """Two shards in which some samples lack a part."""
    every = [{"png": b"p", "txt": b"x"}, {"txt": b"y"}, {"png": b"p"}, {"json": b"{}"}, {"png": b"p", "txt": b""}]
    samples = [Sample(key=f"{i:09d}", parts=parts) for i, parts in enumerate([*every, *every[:2]])]
    write_shards(samples, tmp_path, 0, 4)
    return tmp_path


@pytest.mark.parametrize(("parts", "present"), [("pairs", [0, 5]), ("images", [0, 2, 4, 5]), ("texts", [0, 1, 5, 6])])
def test_samples_that_lack_a_part_are_left_out_and_counted(uneven: Path, parts: Parts, present: list[int]) -> None:
    dataset = ShardDataset(uneven, parts)
    assert [int(key) for key in dataset.keys] == present
    assert dataset.left_out == 7 - len(present)
    if parts != "images":
        assert [dataset.caption(i) for i in range(len(dataset))] == ["y" if i in (1, 6) else "x" for i in present]


@pytest.mark.parametrize("parts", [{"txt": b"x"}, {"png": b"x"}, {"json": b"{}"}])
def test_shards_in_which_no_sample_has_what_is_needed_are_refused(write_shard: Write, parts: dict[str, bytes]) -> None:
    with pytest.raises(ValueError, match=r"none of the 1 samples in .*00000\.tar has a picture and a text"):
        ShardDataset(write_shard(**parts))


def test_a_cut_shard_is_refused_before_anything_is_read(shards: Path, tmp_path: Path) -> None:
    whole = (shards / "00001.tar").read_bytes()
    shutil.copy(shards / "00000.tar", tmp_path)
    (tmp_path / "00001.tar").write_bytes(whole[: len(whole) // 2 // 512 * 512])
    with pytest.raises(ShardError, match="cut") as caught:
        ShardDataset(tmp_path)
    assert "00001.tar" in str(caught.value)


def test_no_shard_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="names no shard"):
        ShardDataset(tmp_path)


def _gif() -> bytes:
    out = io.BytesIO()
    Image.new("RGB", (4, 4)).save(out, format="GIF")
    return out.getvalue()


def _bomb() -> bytes:
    out = io.BytesIO()
    Image.new("1", (9000, 9000)).save(out, format="PNG")
    return out.getvalue()


@pytest.mark.parametrize("content", [b"", b"no picture", _gif(), _bomb()], ids=["empty", "text", "gif", "bomb"])
def test_a_bad_picture_names_shard_and_sample(write_shard: Write, content: bytes) -> None:
    dataset = ShardDataset(write_shard(png=content, txt=b"x"))
    with pytest.raises(ValueError, match=r"00000\.tar.*000000007"):
        dataset.picture(0)


def test_a_cut_picture_names_shard_and_sample(write_shard: Write, make_picture: Callable[..., bytes]) -> None:
    dataset = ShardDataset(write_shard(png=make_picture(0)[:500], txt=b"x"))
    with pytest.raises(ValueError, match=r"00000\.tar.*000000007"):
        dataset.picture(0)


def test_a_caption_that_is_not_utf8_names_shard_and_sample(
    write_shard: Write, make_picture: Callable[..., bytes]
) -> None:
    dataset = ShardDataset(write_shard(png=make_picture(0), txt=b"\xff\xfe"))
    with pytest.raises(ValueError, match=r"00000\.tar.*000000007.*UTF-8"):
        dataset.caption(0)


def test_metadata_is_the_json(shards: Path) -> None:
    assert ShardDataset(shards).metadata(5) == {"number": 5}


def test_a_sample_without_json_has_no_metadata(write_shard: Write, make_picture: Callable[..., bytes]) -> None:
    assert ShardDataset(write_shard(png=make_picture(0), txt=b"x")).metadata(0) == {}


@pytest.mark.parametrize("content", [b"{", b"[]", b"[" * 60_000, b"x" * 70_000])
def test_a_bad_json_names_shard_and_sample(
    write_shard: Write, make_picture: Callable[..., bytes], content: bytes
) -> None:
    dataset = ShardDataset(write_shard(png=make_picture(0), txt=b"x", json=content))
    with pytest.raises(ValueError, match=r"00000\.tar.*000000007.*\.json"):
        dataset.metadata(0)


def test_the_pixels_stay_on_disk(tmp_path: Path, make_picture: Callable[..., bytes]) -> None:
    # A set is sent to every data worker and may be far larger than memory.
    write_shards(
        [Sample(key=f"{i:09d}", parts={"png": make_picture(i, size=(200, 200)), "txt": b"x"}) for i in range(10)],
        tmp_path,
        0,
        10,
    )
    assert len(pickle.dumps(ShardDataset(tmp_path))) < 20_000


@pytest.mark.parametrize(("fits", "decoded"), [(True, 1), (False, 3)])
def test_pictures_of_a_set_that_fits_are_decoded_once(
    shards: Path, monkeypatch: pytest.MonkeyPatch, fits: bool, decoded: int
) -> None:
    calls = []
    decode = pipeline.decode_picture
    monkeypatch.setattr(pipeline, "decode_picture", lambda content, at_least: calls.append(1) or decode(content))
    room = len(ShardDataset(shards)) * 3 * 40 * 48
    monkeypatch.setattr(pipeline, "_MAX_DECODED_BYTES", room - (0 if fits else 1))
    dataset = ShardDataset(shards)
    first = dataset.picture(0)
    assert all(torch.equal(dataset.picture(0), first) for _ in range(2))
    assert len(calls) == decoded
    assert len(pickle.dumps(dataset)) < 100_000
