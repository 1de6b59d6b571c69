"""Truth: the masks of the streams themselves, and captions whose words are known. The pictures are made up."""

from __future__ import annotations

import pytest
import torch
from mm_mhmoe_data.masked_view import MaskOptions, masked_patches, masked_words
from mm_mhmoe_data.masking import cube_mask, sample_rng
from mm_mhmoe_data.ordered import iterate_pairs
from mm_mhmoe_data.pipeline import ShardDataset
from mm_mhmoe_data.tokenizer import Tokenizer


def options(**changes) -> MaskOptions:
    return MaskOptions(**{"image": 0.4, "text": 0.5, "grid": 8, "seed": 3, **changes})


def test_the_masks_are_those_of_held_out_pairs(shards, tokenizer: Tokenizer, vision, text) -> None:
    dataset = ShardDataset(shards)
    batch = next(iterate_pairs(dataset, tokenizer, vision, text, 5, image_mask=0.4, text_mask=0.5, seed=3))
    assert batch.images is not None and batch.texts is not None
    for row, key in enumerate(batch.keys):
        view = masked_patches(torch.zeros(3, 32, 32, dtype=torch.uint8), key, options())
        hidden_N = (view.view(3, 8, 4, 8, 4) > 0).all(dim=4).all(dim=2).all(dim=0).flatten()
        assert torch.equal(hidden_N, batch.images.masked_BN[row])
        pieces = [p for word in masked_words(dataset.caption(row), key, options(tokenizer=tokenizer)) for p in word]
        if len(pieces) <= text.max_length - 2:  # the stream of this test cuts its texts
            masked_L = batch.texts.masked_BL[row, 1 : 1 + len(pieces)]
            assert [hides for _, hides in pieces] == masked_L.tolist()


def test_visible_patches_are_the_picture() -> None:
    picture = torch.randint(0, 256, (3, 32, 32), dtype=torch.uint8)
    view = masked_patches(picture, "a", options())
    same_NN = (view == picture).view(3, 8, 4, 8, 4).all(dim=4).all(dim=2).all(dim=0)
    assert same_NN.sum() == 64 - round(0.4 * 64)


def test_pieces_of_a_word_stay_together(tokenizer: Tokenizer) -> None:
    words = masked_words("Red star on the left", "a", options(tokenizer=tokenizer, text=0.0))
    assert ["".join(piece for piece, _ in word) for word in words] == ["red", "star", "on", "the", "left"]
    assert not any(hides for word in words for _, hides in word)
    for seed in range(10):
        words = masked_words("Red star on the left", "a", options(tokenizer=tokenizer, whole_word=True, seed=seed))
        assert all(len({hides for _, hides in word}) == 1 for word in words)
        assert 2 <= sum(word[0][1] for word in words) <= 3


def test_without_a_tokenizer_words_are_hidden() -> None:
    words = masked_words("a star, and a house", "a", options())
    assert [piece for word in words for piece, _ in word] == ["a", "star,", "and", "a", "house"]
    assert 2 <= sum(hides for word in words for _, hides in word) <= 3
    assert masked_words("", "a", options()) == []


def test_impossible_options_are_refused() -> None:
    with pytest.raises(ValueError, match=r"image_mask=1\.5"):
        options(image=1.5)
    with pytest.raises(ValueError, match="grid=0"):
        options(grid=0)
    with pytest.raises(ValueError, match="mask_unit=0"):
        options(unit=0)


def test_the_kind_of_mask_is_that_of_the_streams() -> None:
    view = masked_patches(torch.zeros(3, 32, 32, dtype=torch.uint8), "a", options(kind="cube", unit=4))
    hidden_N = (view.view(3, 8, 4, 8, 4) > 0).all(dim=4).all(dim=2).all(dim=0).flatten()
    assert torch.equal(hidden_N, cube_mask(8, 0.4, sample_rng(3, 0, "a", "pairs/picture"), unit=4))
