"""Truth: the parts that a stream is made of, called one by one. Samples are made up."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from mm_mhmoe_data.masking import block_mask, cube_mask, sample_draws, sample_rng
from mm_mhmoe_data.pipeline import ShardDataset
from mm_mhmoe_data.samples import Captions, Pictures, Stream, begins_word
from mm_mhmoe_data.sampling import Pick
from mm_mhmoe_data.shards import Sample, write_shards
from mm_mhmoe_data.tokenizer import Tokenizer
from mm_mhmoe_data.transforms import TrainTransform

from mm_mhmoe.config import TextConfig

PICKS = [Pick(0, 4), Pick(1, 4), Pick(0, 17), Pick(2, 0)]


@pytest.fixture(scope="module")
def dataset(shards: Path) -> ShardDataset:
    return ShardDataset(shards)


def test_a_batch_is_its_samples_one_by_one(dataset: ShardDataset) -> None:
    transform = TrainTransform(32)
    pictures = Pictures(dataset, transform, grid=8, stream="pairs", seed=5, mask_ratio=0.4)
    images = Stream(dataset, pictures, None)(PICKS).images
    assert images is not None and images.masked_BN is not None
    for row, (epoch, index) in enumerate(PICKS):
        state = 5, epoch, dataset.keys[index]
        crop_CHW = transform(dataset.picture(index), sample_draws(*state, "pairs/crop"))
        assert torch.equal(images.pixels_BCHW[row], crop_CHW)
        assert torch.equal(images.masked_BN[row], block_mask(8, 0.4, sample_rng(*state, "pairs/picture")))


def test_patch_masks_are_of_the_kind_asked_for(dataset: ShardDataset) -> None:
    transform = TrainTransform(32)
    options = {"grid": 8, "stream": "pairs", "seed": 5, "mask_ratio": 0.4}
    pictures = Pictures(dataset, transform, mask_kind="cube", mask_unit=4, **options)  # type: ignore[arg-type]
    for pick in PICKS:
        rng = sample_rng(5, pick.epoch, dataset.keys[pick.sample], "pairs/picture")
        found = pictures(pick)
        assert found.masked_N is not None and torch.equal(found.masked_N, cube_mask(8, 0.4, rng, unit=4))


def test_pixels_lie_in_the_memory_that_is_handed_in(dataset: ShardDataset) -> None:
    memory = torch.empty((4, 32, 32, 3), dtype=torch.uint8)
    asked = []

    def empty(shape, dtype: torch.dtype) -> torch.Tensor:
        asked.append((tuple(shape), dtype))
        return memory

    pictures = Pictures(dataset, TrainTransform(32), grid=8, stream="s", seed=0)
    pixels_BCHW = Stream(dataset, pictures, None)(PICKS, empty).images.pixels_BCHW  # type: ignore[union-attr]
    assert asked == [((4, 32, 32, 3), torch.uint8)]
    assert pixels_BCHW.shape == (4, 3, 32, 32) and pixels_BCHW.data_ptr() == memory.data_ptr()
    assert torch.equal(pixels_BCHW, torch.stack([pictures(pick).pixels_CHW for pick in PICKS]))


def test_only_pictures_whose_caption_names_no_side_are_flipped(
    dataset: ShardDataset, tokenizer: Tokenizer, text: TextConfig
) -> None:
    transforms = {flip: TrainTransform(32, flip=flip) for flip in ("off", "on", "caption")}  # type: ignore[arg-type]
    picks = [Pick(epoch, index) for epoch in range(3) for index in range(len(dataset))]
    captions = Captions(dataset, tokenizer, text, stream="s", seed=0)
    seen = {
        flip: Stream(dataset, Pictures(dataset, transform, grid=8, stream="s", seed=0), captions)(picks)
        for flip, transform in transforms.items()
    }
    pixels = {flip: batch.images.pixels_BCHW for flip, batch in seen.items() if batch.images}
    kinds = set()
    for row, (_, index) in enumerate(picks):
        names_side = "left" in dataset.caption(index).split()
        assert torch.equal(pixels["caption"][row], pixels["off" if names_side else "on"][row])
        kinds.add((names_side, torch.equal(pixels["on"][row], pixels["off"][row])))
    assert len(kinds) == 4  # with and without a side, each flipped and not


def test_a_stream_of_pictures_alone_flips_them_all(dataset: ShardDataset) -> None:
    """Nothing is said about them there."""
    on, caption = (
        Stream(dataset, Pictures(dataset, TrainTransform(32, flip=flip), grid=8, stream="s", seed=0), None)(PICKS * 4)
        for flip in ("on", "caption")
    )
    assert on.images is not None and caption.images is not None
    assert torch.equal(on.images.pixels_BCHW, caption.images.pixels_BCHW)


def test_whole_words_by_the_tokenizers_own_pieces(dataset: ShardDataset, tokenizer: Tokenizer) -> None:
    text = TextConfig(vocab_size=64, max_length=32)
    picks = [Pick(epoch, index) for epoch in range(2) for index in range(len(dataset))]
    captions = Captions(dataset, tokenizer, text, stream="s", seed=0, mask_ratio=0.4, whole_word=True)
    texts = Stream(dataset, None, captions)(picks).texts
    assert texts is not None and texts.masked_BL is not None
    for row, (_, index) in enumerate(picks):
        shown, hidden = [], texts.masked_BL[row].tolist()
        for piece_id, hides in zip(texts.ids_BL[row].tolist(), hidden, strict=True):
            if piece_id > 4:
                shown.append((tokenizer.piece(piece_id), hides))
        words = "".join(f" {p[1:]}" if p.startswith("▁") else p for p, _ in shown).split()
        assert words == dataset.caption(index).split()
        starts = [i for i, (piece, _) in enumerate(shown) if piece.startswith("▁")]
        for start, end in zip(starts, [*starts[1:], len(shown)], strict=True):
            assert len({hides for _, hides in shown[start:end]}) == 1
    assert np.array_equal(begins_word(tokenizer), [tokenizer.piece(i)[0] == "▁" for i in range(len(tokenizer))])


def test_one_of_several_captions_is_drawn_where_the_data_set_says_so(
    tmp_path: Path, tokenizer: Tokenizer, text: TextConfig
) -> None:
    write_shards([Sample(key="a", parts={"txt": b"red star\nsmall bird\n"})], tmp_path / "root" / "train", 0, 1)

    def said(**options: str) -> set[str]:
        captions = Captions(
            ShardDataset(tmp_path / "root" / "train", "texts"), tokenizer, text, stream="s", seed=0, **options
        )  # type: ignore[arg-type]
        return {captions(Pick(epoch, 0)).text for epoch in range(20)}

    whole, lines = {"red star\nsmall bird"}, {"red star", "small bird"}
    assert said() == whole and said(captions="lines") == lines
    (tmp_path / "root" / "dataset_type.txt").write_text("retrieval")
    assert said() == lines and said(captions="whole") == whole


def test_one_caption_of_all_languages_is_drawn(tmp_path: Path, tokenizer: Tokenizer, text: TextConfig) -> None:
    told = b'{"captions": {"en": "red star", "fr": "etoile rouge"}}'
    samples = [Sample(key="a", parts={"txt": b"red star", "json": told}), Sample(key="b", parts={"txt": b"bird"})]
    write_shards(samples, tmp_path, 0, 2)
    captions = Captions(ShardDataset(tmp_path, "texts"), tokenizer, text, stream="s", seed=0, captions="languages")
    assert {captions(Pick(epoch, 0)).text for epoch in range(20)} == {"red star", "etoile rouge"}
    with pytest.raises(ValueError, match="sample b has no captions by language"):
        captions(Pick(0, 1))
