from __future__ import annotations

import json
from itertools import combinations
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from mm_mhmoe_eval.retrieval import TIE, chance_recall, new_ranks, retrieval_ranks, retrieval_scores, top_k
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


def brute_force(image_ME: torch.Tensor, text_NE: torch.Tensor, owner: list[int]) -> tuple[list[int], list[int]]:
    """Ranks read off the whole matrix, candidate by candidate."""
    matrix = (text_NE @ image_ME.T).tolist()
    images, texts = range(len(image_ME)), range(len(text_NE))
    image_ranks = []
    for n in texts:
        own = matrix[n][owner[n]]
        image_ranks.append(1 + sum(matrix[n][m] >= own - TIE for m in images if m != owner[n]))
    text_ranks = []
    for m in images:
        captions = [n for n in texts if owner[n] == m]
        if captions:
            best = max(matrix[n][m] for n in captions)
            text_ranks.append(1 + sum(matrix[n][m] >= best - TIE for n in texts if owner[n] != m))
        else:
            text_ranks.append(0)
    return image_ranks, text_ranks


@st.composite
def problems(draw: st.DrawFn) -> tuple[torch.Tensor, torch.Tensor, list[int]]:
    """Small integer embeddings, so that scores are exact and ties are common."""
    images, texts, dim = draw(st.integers(1, 7)), draw(st.integers(1, 12)), draw(st.integers(1, 3))
    rows = st.lists(st.integers(-2, 2), min_size=dim, max_size=dim)
    image = draw(st.lists(rows, min_size=images, max_size=images))
    text = draw(st.lists(rows, min_size=texts, max_size=texts))
    owner = draw(st.lists(st.integers(0, images - 1), min_size=texts, max_size=texts))
    return torch.tensor(image, dtype=torch.float32), torch.tensor(text, dtype=torch.float32), owner


@settings(max_examples=150, deadline=None)
@given(problems(), st.integers(1, 5))
def test_ranks_equal_the_whole_matrix(problem: tuple[torch.Tensor, torch.Tensor, list[int]], chunk: int) -> None:
    image_ME, text_NE, owner = problem
    ranks = retrieval_ranks(image_ME, text_NE, torch.tensor(owner), chunk=chunk)
    assert (ranks.image_N.tolist(), ranks.text_M.tolist()) == brute_force(image_ME, text_NE, owner)


@settings(max_examples=50, deadline=None)
@given(problems())
def test_scores_are_shares_of_ranks(problem: tuple[torch.Tensor, torch.Tensor, list[int]]) -> None:
    image_ME, text_NE, owner = problem
    image_ranks, text_ranks = brute_force(image_ME, text_NE, owner)
    text_ranks = [rank for rank in text_ranks if rank]
    scores = retrieval_scores(image_ME, text_NE, torch.tensor(owner))
    for k in (1, 5, 10):
        assert scores[f"image_retrieval_recall@{k}"] == pytest.approx(
            sum(rank <= k for rank in image_ranks) / len(image_ranks)
        )
        assert scores[f"text_retrieval_recall@{k}"] == pytest.approx(
            sum(rank <= k for rank in text_ranks) / len(text_ranks)
        )
    assert scores["image_retrieval_candidates"] == len(image_ME)
    assert scores["text_retrieval_candidates"] == len(text_NE)
    assert scores["text_retrieval_queries"] == len(text_ranks)


def test_one_of_several_captions_is_enough() -> None:
    image_ME = torch.eye(2)
    # Picture 0 has a hopeless and a perfect caption, picture 1 a fair one.
    text_NE = torch.tensor([[-1.0, 0.0], [1.0, 0.0], [0.3, 0.9]])
    scores = retrieval_scores(image_ME, text_NE, torch.tensor([0, 0, 1]), ks=(1,))
    assert scores["text_retrieval_recall@1"] == 1.0
    assert scores["image_retrieval_recall@1"] == pytest.approx(2 / 3)
    assert scores["image_retrieval_median_rank"] == 1.0


def test_own_captions_do_not_stand_in_each_others_way() -> None:
    image_ME = torch.eye(2)
    text_NE = torch.tensor([[1.0, 0.0], [1.0, 0.0], [1.0, 0.0], [0.0, 1.0]])
    assert retrieval_ranks(image_ME, text_NE, torch.tensor([0, 0, 0, 1])).text_M.tolist() == [1, 1]


def test_a_collapsed_encoder_gets_the_worst_rank() -> None:
    same = torch.ones(20, 8) / 8**0.5
    noisy = same + 1e-8 * torch.randn(20, 8, generator=torch.Generator().manual_seed(0))
    for chunk in (3, 1024):
        ranks = retrieval_ranks(noisy, same, torch.arange(20), chunk=chunk)
        assert ranks.image_N.tolist() == [20] * 20
        assert ranks.text_M.tolist() == [20] * 20


@pytest.mark.parametrize(("candidates", "right", "k"), [(10, 1, 1), (10, 1, 5), (7, 3, 2), (6, 5, 3), (4, 2, 10)])
def test_chance_counts_every_draw(candidates: int, right: int, k: int) -> None:
    draws = list(combinations(range(candidates), min(k, candidates)))
    hits = sum(any(item < right for item in draw) for draw in draws)
    assert chance_recall(torch.tensor([right]), candidates, k) == pytest.approx(hits / len(draws))


def test_chance_of_image_retrieval_is_k_over_candidates() -> None:
    generator = torch.Generator().manual_seed(0)
    image_ME, text_NE = torch.randn(50, 4, generator=generator), torch.randn(50, 4, generator=generator)
    scores = retrieval_scores(image_ME, text_NE, torch.arange(50))
    assert [scores[f"image_retrieval_chance@{k}"] for k in (1, 5, 10)] == pytest.approx([0.02, 0.1, 0.2])
    assert [scores[f"text_retrieval_chance@{k}"] for k in (1, 5, 10)] == pytest.approx([0.02, 0.1, 0.2])


def test_chance_averages_over_numbers_of_captions() -> None:
    # Text side: 3 texts; picture 0 has 2 of them (2/3), picture 1 has 1 (1/3).
    scores = retrieval_scores(torch.eye(2), torch.ones(3, 2), torch.tensor([0, 0, 1]), ks=(1,))
    assert scores["text_retrieval_chance@1"] == pytest.approx(0.5)


def test_top_k_is_best_first_and_stable() -> None:
    query, candidates = torch.tensor([[1.0], [-1.0]]), torch.tensor([[0.0], [2.0], [2.0], [-3.0]])
    index, score = top_k(query, candidates, 3, chunk=1)
    assert index.tolist() == [[1, 2, 0], [3, 0, 1]]
    assert score.tolist() == [[2.0, 2.0, 0.0], [3.0, 0.0, -2.0]]
    assert top_k(query, candidates, 99)[0].shape == (2, 4)
    assert top_k(query[:0], candidates, 2)[0].shape == (0, 2)


@settings(max_examples=100, deadline=None)
@given(problems(), st.integers(1, 9))
def test_top_k_is_the_head_of_a_stable_sort(problem: tuple[torch.Tensor, torch.Tensor, list[int]], k: int) -> None:
    image_ME, text_NE, _ = problem
    score, index = (text_NE @ image_ME.T).sort(dim=1, descending=True, stable=True)
    found_index, found_score = top_k(text_NE, image_ME, k, chunk=2)
    assert torch.equal(found_index, index[:, :k]) and torch.equal(found_score, score[:, :k])


@pytest.mark.parametrize(
    ("image", "text", "owner", "message"),
    [
        (torch.zeros(2, 3), torch.zeros(2, 4), [0, 1], "must be"),
        (torch.zeros(2, 3), torch.zeros(2, 3), [0], "texts"),
        (torch.zeros(2, 3), torch.zeros(2, 3), [0, 2], "outside"),
        (torch.zeros(2, 3), torch.zeros(0, 3), [], "needs pictures and texts"),
        (torch.full((2, 3), float("nan")), torch.zeros(2, 3), [0, 1], "not finite"),
    ],
)
def test_wrong_input_is_refused(image: torch.Tensor, text: torch.Tensor, owner: list[int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        retrieval_ranks(image, text, torch.tensor(owner))


def test_recalls_are_clip_benchmarks() -> None:
    """Golden values of CLIP_benchmark 1.6.2's own code (tests/golden/make_clip_benchmark_recalls.py)."""
    golden = json.loads((Path(__file__).parents[1] / "golden" / "clip_benchmark_recalls.json").read_text())
    image_ME, text_NE = (F.normalize(torch.tensor(golden[side]), dim=1) for side in ("image", "text"))
    scores = retrieval_scores(image_ME, text_NE, torch.tensor(golden["owner"]), chunk=7)
    assert len(text_NE) > 2 * len(image_ME) and 0.3 < golden["recalls"]["text_retrieval_recall@1"] < 0.6
    assert {name: scores[name] for name in golden["recalls"]} == pytest.approx(golden["recalls"])


class Largest(TorchDispatchMode):
    """The most numbers that a tensor made under it has."""

    numbers = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        made = function(*args, **(kwargs or {}))
        for tensor in tree_leaves(made):
            if isinstance(tensor, torch.Tensor):
                self.numbers = max(self.numbers, tensor.untyped_storage().nbytes() // tensor.element_size())
        return made


def test_there_is_never_a_full_matrix() -> None:
    generator = torch.Generator().manual_seed(0)
    image_ME, text_NE = torch.randn(300, 4, generator=generator), torch.randn(1500, 4, generator=generator)
    owner_N = torch.arange(300).repeat_interleave(5)
    with Largest() as seen:
        ranks = retrieval_ranks(image_ME, text_NE, owner_N, chunk=16)
        top_k(text_NE, image_ME, 5, chunk=16)
    assert seen.numbers == 16 * 1500
    assert ranks.image_N.float().mean() > 100  # random embeddings


@settings(max_examples=100, deadline=None)
@given(problems(), st.integers(1, 4), st.integers(0, 3))
def test_new_ranks_by_hand(problem: tuple[torch.Tensor, torch.Tensor, list[int]], keep: int, seed: int) -> None:
    """Truth: the K best by the old score, counted one by one with their new one. Ties are there."""
    image_ME, text_NE, owner = problem
    ranks = retrieval_ranks(image_ME, text_NE, torch.tensor(owner))
    candidates_NK, _ = top_k(text_NE, image_ME, keep)
    generator = torch.Generator().manual_seed(seed)
    new_NK = torch.randint(0, 3, candidates_NK.shape, generator=generator).float()
    found = new_ranks(ranks.image_N, new_NK, candidates_NK == torch.tensor(owner)[:, None])
    for n, (candidates, scores) in enumerate(zip(candidates_NK.tolist(), new_NK.tolist(), strict=True)):
        if owner[n] not in candidates:
            assert found[n] == ranks.image_N[n] > len(candidates)
        else:
            own = scores[candidates.index(owner[n])]
            assert found[n] == sum(score >= own for score in scores)  # its own among them
