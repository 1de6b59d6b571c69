"""Two real processes over gloo. Truth: one process with the batches of both as one. Batches are random."""

from pathlib import Path

import pytest
import torch

from mm_mhmoe.models.heads import ContrastiveHead
from mm_mhmoe.objectives.contrastive import info_nce
from mm_mhmoe.objectives.gather import gather_over_ranks


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


def test_a_single_process_gathers_nothing():
    assert gather_over_ranks() is None
