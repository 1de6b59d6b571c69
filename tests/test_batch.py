"""Truth: the contract in batch.py's docstrings."""

import pytest
import torch

from mm_mhmoe.batch import Images, ImageTextBatch, PretrainBatch, Texts, VQABatch


def test_an_empty_stream_is_refused() -> None:
    with pytest.raises(ValueError, match="images and texts are both None"):
        ImageTextBatch()


def test_pairs_of_different_numbers_are_refused_with_both() -> None:
    images = Images(pixels_BCHW=torch.zeros(2, 3, 4, 4))
    texts = Texts(ids_BL=torch.zeros(3, 4, dtype=torch.int64), valid_BL=torch.ones(3, 4, dtype=torch.bool))
    with pytest.raises(ValueError, match=r"2 images but 3 texts"):
        ImageTextBatch(images=images, texts=texts)


@pytest.mark.parametrize("kind", ["images", "texts", "pairs"])
def test_length_is_the_number_of_rows(stream, kind: str) -> None:
    assert len(stream(kind, rows=5)) == 5


def test_to_moves_every_tensor_and_keeps_the_rest(stream) -> None:
    """The meta device stands in for a GPU."""
    batch = VQABatch(pairs=stream(masked=True), targets_BA=torch.ones(3, 2), question_ids=(7, 8, 9))
    moved = batch.to("meta")
    assert moved.question_ids == (7, 8, 9)
    assert moved.pairs.images is not None and moved.pairs.texts is not None
    for tensor in (
        moved.targets_BA,
        moved.pairs.images.pixels_BCHW,
        moved.pairs.images.masked_BN,
        moved.pairs.texts.ids_BL,
        moved.pairs.texts.valid_BL,
        moved.pairs.texts.masked_BL,
    ):
        assert tensor is not None and tensor.device.type == "meta"
    assert batch.targets_BA.device.type == "cpu"


def test_absent_streams_stay_absent(stream) -> None:
    moved = PretrainBatch(texts=stream("texts")).to("meta")
    assert moved.images is None and moved.pairs is None and moved.texts is not None


def test_pin_memory_reaches_every_tensor(stream, monkeypatch: pytest.MonkeyPatch) -> None:
    pinned = []
    monkeypatch.setattr(torch.Tensor, "pin_memory", lambda self: pinned.append(self) or self)
    batch = PretrainBatch(pairs=stream("pairs", masked=True), texts=stream("texts", masked=True))
    assert batch.pin_memory().texts is not None
    assert len(pinned) == 2 + 3 + 3
