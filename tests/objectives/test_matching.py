"""Truth: probabilities written out, and pairs whose pictures and texts carry their own number. All made up."""

import pytest
import torch

from mm_mhmoe.batch import Images, ImageTextBatch, Texts
from mm_mhmoe.objectives.contrastive import Similarities
from mm_mhmoe.objectives.matching import hard_negatives, matching_loss, matching_pairs


def test_negatives_are_drawn_as_often_as_the_softmax_over_the_others_says() -> None:
    torch.manual_seed(0)
    logits = torch.tensor([[9.0, 0.0, 1.0], [2.0, -5.0, 2.0], [0.0, 3.0, 200.0]])
    drawn = torch.stack([hard_negatives(logits, torch.arange(3)) for _ in range(3000)])
    shares = torch.stack([(drawn == column).float().mean(0) for column in range(3)], dim=1)
    e = torch.e
    expected = torch.tensor([[0, 1 / (1 + e), e / (1 + e)], [0.5, 0, 0.5], [1 / (1 + e**3), e**3 / (1 + e**3), 0]])
    assert torch.equal(shares.diagonal(), torch.zeros(3))
    torch.testing.assert_close(shares, expected, rtol=0, atol=0.045)  # five standard errors of .5 / sqrt(3000)


def test_similarities_that_are_not_finite_draw_some_other_column() -> None:
    """Of a row of NaN any other; of one with an infinite similarity that one."""
    logits = torch.tensor([[torch.nan] * 3, [0.0, torch.nan, torch.inf], [torch.inf, 0.0, 0.0]])
    drawn = torch.stack([hard_negatives(logits, torch.arange(3)) for _ in range(100)])
    assert set(drawn[:, 0].tolist()) == {1, 2} and set(drawn[:, 1].tolist()) == {2} and set(drawn[:, 2].tolist()) == {0}


def test_one_pair_has_no_negative() -> None:
    with pytest.raises(ValueError, match="to 2 or more"):
        hard_negatives(torch.ones(1, 1), torch.zeros(1, dtype=torch.int64))


def test_the_own_column_may_lie_anywhere() -> None:
    """Two own pairs behind two of another rank: of four columns, the third and fourth are the own ones."""
    logits = torch.tensor([[0.0, 0.0, 99.0, -99.0], [-99.0, 0.0, 0.0, 99.0]])
    drawn = {tuple(hard_negatives(logits, torch.tensor([2, 3])).tolist()) for _ in range(200)}
    assert drawn == {(0, 1), (0, 2), (1, 1), (1, 2)}


def test_the_rows_are_the_pairs_then_hard_pictures_then_hard_texts() -> None:
    """Picture 0 is most like text 1 and so on, far beyond chance; text 0 most like picture 2."""
    number = torch.arange(3)
    pairs = ImageTextBatch(
        images=Images(pixels_BCHW=number.view(3, 1, 1, 1).float(), masked_BN=torch.ones(3, 1, dtype=torch.bool)),
        texts=Texts(
            ids_BL=number.view(3, 1), valid_BL=(number > 0).view(3, 1), masked_BL=torch.ones(3, 1, dtype=torch.bool)
        ),
    )
    to_texts = torch.tensor([[0.0, 99, 0], [0, 0, 99], [99, 0, 0]])
    rows = matching_pairs(pairs, Similarities(to_texts, to_texts.t(), number))
    assert rows.images.pixels_BCHW.flatten().tolist() == [0, 1, 2, 2, 0, 1, 0, 1, 2]
    assert rows.texts.ids_BL.flatten().tolist() == [0, 1, 2, 0, 1, 2, 1, 2, 0]
    assert torch.equal(rows.texts.valid_BL, rows.texts.ids_BL > 0)
    assert rows.images.masked_BN is None and rows.texts.masked_BL is None


def test_the_first_third_matches() -> None:
    logits = torch.tensor([[0.0, 2.0], [3.0, 0.0], [0.0, 1.0]])
    found = matching_loss(logits, torch.nn.Identity())
    # -log of sigmoid(2), sigmoid(3) and, wrong, sigmoid(-1)
    expected = -torch.tensor([2.0, 3.0, -1.0]).sigmoid().log().mean()
    torch.testing.assert_close(found.loss, expected)
    assert found.positions == 3 and found.correct.item() == 2
