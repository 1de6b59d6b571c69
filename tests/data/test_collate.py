"""Truth: batches worked by hand."""

from __future__ import annotations

import pytest
import torch
from mm_mhmoe_data.collate import collate_texts


def test_texts_are_padded_to_a_multiple_of_8() -> None:
    masks = [torch.tensor([False, True, False]), torch.tensor([False, True, True, False])]
    texts = collate_texts([[0, 7, 2], [0, 8, 9, 2]], 1, 24, masks)
    assert texts.ids_BL.tolist() == [[0, 7, 2, 1, 1, 1, 1, 1], [0, 8, 9, 2, 1, 1, 1, 1]]
    assert texts.ids_BL.dtype == torch.int64
    assert texts.valid_BL.tolist() == [[True] * 3 + [False] * 5, [True] * 4 + [False] * 4]
    assert texts.masked_BL is not None
    assert texts.masked_BL.int().tolist() == [[0, 1, 0, 0, 0, 0, 0, 0], [0, 1, 1, 0, 0, 0, 0, 0]]


@pytest.mark.parametrize(("longest", "max_length", "padded"), [(8, 24, 8), (9, 24, 16), (17, 20, 20), (20, 20, 20)])
def test_padding_never_exceeds_the_table_of_positions(longest: int, max_length: int, padded: int) -> None:
    assert collate_texts([[0, 2], [7] * longest], 1, max_length).ids_BL.shape == (2, padded)


def test_a_text_may_hold_the_padding_id() -> None:
    assert collate_texts([[0, 1, 2]], 1, 3).valid_BL.tolist() == [[True, True, True]]


def test_without_masks_there_are_none() -> None:
    assert collate_texts([[0, 2]], 1, 8).masked_BL is None
