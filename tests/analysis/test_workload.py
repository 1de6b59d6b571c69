"""Truth: the masks that the data package draws, and batches counted by hand."""

import numpy as np
import pytest
from mm_mhmoe_data.masking import block_mask, sample_rng, text_mask

from mm_mhmoe.analysis.workload import Workload


def test_streams_and_tokens(config) -> None:
    """A picture has 1 + 16 tokens, a text 8, a pair 25."""
    work = Workload(batch_images=3, batch_texts=2, batch_pairs=5)
    assert work.streams(config()) == [(3, 17), (2, 8), (5, 25)]
    assert work.tokens(config()) == 3 * 17 + 2 * 8 + 5 * 25
    assert (work.pictures, work.texts) == (8, 7)
    assert Workload(batch_texts=4).streams(config()) == [(4, 8)]


def test_streams_that_other_objectives_add(config) -> None:
    """Of 5 pairs: captions in the same pass, pictures and texts alone in the same pass, 15 rows in a second one."""
    asked = Workload(batch_texts=2, batch_pairs=5, caption_loss=True, contrastive_loss=True, itm_loss=True)
    assert asked.passes(config()) == [
        [(2, 0, 8, False), (5, 17, 8, False), (5, 17, 8, True), (5, 17, 0, False), (5, 0, 8, False)],
        [(15, 17, 8, False)],
    ]
    assert (asked.pictures, asked.texts) == (5 * 6, 2 + 5 * 6)
    assert (asked.next_words(config()), asked.compared, asked.matched) == (5 * 7, 5, 15)


def test_a_language_models_sequences(config) -> None:
    """Every token but the first is predicted, from those before it."""
    work = Workload(sequences=3)
    assert work.passes(config()) == [[(3, 0, 8, True)]]
    assert (work.pictures, work.texts, work.next_words(config()), work.hidden_words(config())) == (0, 3, 3 * 7, 0)


def test_hidden_patches_are_those_of_the_masks(config) -> None:
    for share in (0.0, 0.1, 0.4, 0.75):
        drawn = sum(int(block_mask(4, share, sample_rng(0, 0, str(i), "images")).sum()) for i in range(5))
        assert Workload(batch_images=5, image_mask=share).hidden_patches(config()) == drawn
        assert Workload(batch_pairs=5, pair_image_mask=share).hidden_patches(config()) == drawn


@pytest.mark.parametrize("share", [0.05, 0.3, 0.5])
def test_hidden_words_are_those_of_the_masks_on_average(config, share) -> None:
    """Six of eight tokens can be masked. The mask rounds at random: 2,000 draws lie within 3 % of their mean."""
    free, generator = np.array([False, *[True] * 6, False]), np.random.default_rng(0)
    drawn = sum(int(text_mask(free, share, generator).sum()) for _ in range(2000))
    assert Workload(batch_texts=2000, text_mask=share).hidden_words(config()) == pytest.approx(drawn, rel=0.03)
    assert Workload(batch_pairs=2000, pair_text_mask=share).hidden_words(config()) == pytest.approx(drawn, rel=0.03)


@pytest.mark.parametrize(
    ("values", "named"),
    [
        ({}, "all 0"),
        ({"batch_texts": -1}, "batch_texts=-1"),
        ({"batch_texts": 1, "text_mask": 1.5}, "text_mask=1.5"),
        ({"batch_texts": 1, "caption_loss": True}, "batch_pairs=0; set it to 2"),
        ({"sequences": 2, "batch_texts": 1}, "sequences=2 are a language model's step"),
        ({"batch_pairs": 2, "itm_loss": True}, "needs contrastive_loss=true"),
    ],
)
def test_errors(values, named) -> None:
    with pytest.raises(ValueError, match=named):
        Workload(**values)
