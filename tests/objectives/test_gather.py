"""Two real processes over gloo. Truth: one process with the batches of both as one. Batches are random."""

from pathlib import Path

import pytest
import torch

from mm_mhmoe.models.heads import ContrastiveHead
from mm_mhmoe.objectives.contrastive import info_nce
from mm_mhmoe.objectives.gather import gather_over_ranks, take_rows


@pytest.fixture(scope="module")
def given():
    torch.manual_seed(0)
    head = ContrastiveHead(6, 5).double()
    batches = [tuple(torch.randn(4, 6, dtype=torch.float64) for _ in range(2)) for _ in range(2)]
    return {"head": head.state_dict(), "batches": batches}


@pytest.fixture(scope="module")
def ranks(given, two_ranks, tmp_path_factory):
    folder = tmp_path_factory.mktemp("ranks")
    torch.save(given, folder / "given.pt")
    return two_ranks(Path(__file__).with_name("rank_of_two.py"), folder)


def test_loss_and_gradients_are_those_of_both_batches_as_one(given, ranks):
    head = ContrastiveHead(6, 5).double()
    head.load_state_dict(given["head"])
    image_GD, text_GD = (torch.cat(parts) for parts in zip(*given["batches"], strict=True))
    loss = info_nce(head.embed_image(image_GD), head.embed_text(text_GD), head.scale)
    loss.backward()
    torch.testing.assert_close((ranks[0]["loss"] + ranks[1]["loss"]) / 2, loss.detach())
    for name, parameter in head.named_parameters():
        assert parameter.grad.any()
        for rank in ranks:
            torch.testing.assert_close(rank[name], parameter.grad, rtol=1e-4, atol=1e-5)  # embeddings are fp32


def test_ranks_may_have_unlike_numbers_of_rows(ranks):
    for rank, first in zip(ranks, (0, 1), strict=True):
        assert torch.equal(rank["uneven"], torch.tensor([[0.0, 0], [1, 1], [1, 1], [1, 1]]))
        assert rank["first"].item() == first


def test_rows_come_from_the_rank_that_has_them(ranks):
    """Rank 0 has 0 1 2 and asks for 4 0 3 0 2; rank 1 has 3 4 and asks for 4 0 3."""
    for rank, asked in zip(ranks, ([4, 0, 3, 0, 2], [4, 0, 3]), strict=True):
        assert torch.equal(rank["taken"], torch.tensor(asked).view(-1, 1).expand(-1, 2))


def test_hard_negatives_come_from_all_ranks(ranks):
    """Pairs 0 1 2 and 3 4. The most similar other text of picture n is n + 1, the most similar picture of text n is
    n - 1; texts of rank 0 are two tokens long, those of rank 1 three."""
    for rank, own in zip(ranks, ([0, 1, 2], [3, 4]), strict=True):
        after, before = [(n + 1) % 5 for n in own], [(n - 1) % 5 for n in own]
        assert rank["pixels"].tolist() == own + before + own
        assert rank["ids"][:, 0].tolist() == own + own + after
        lengths = [2 if n < 3 else 3 for n in own + own + after]
        assert rank["valid"].shape[1] == 3 and rank["valid"].sum(dim=1).tolist() == lengths


def test_a_single_process_gathers_nothing():
    assert gather_over_ranks() is None
    assert take_rows(torch.arange(4) + 5, torch.tensor([3, 0])).tolist() == [8, 5]
