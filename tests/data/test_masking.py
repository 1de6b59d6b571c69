from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from mm_mhmoe_data.masking import (
    block_mask,
    cube_mask,
    image_mask,
    random_mask,
    sample_draws,
    sample_rng,
    text_mask,
    whole_word_mask,
)


@settings(max_examples=150, deadline=None)
@given(grid=st.integers(2, 20), ratio=st.floats(0, 1), seed=st.integers(0, 2**32))
def test_block_mask_hides_exactly_the_asked_share(grid: int, ratio: float, seed: int) -> None:
    mask_N = block_mask(grid, ratio, np.random.default_rng(seed))
    assert mask_N.shape == (grid * grid,) and mask_N.dtype == torch.bool
    assert int(mask_N.sum()) == round(ratio * grid * grid)


def _like_neighbour(mask_N: torch.Tensor, grid: int) -> float:
    """Share of the pairs of side-by-side patches of which both or none is hidden."""
    mask = mask_N.view(grid, grid)
    return float(torch.cat([(mask[1:] == mask[:-1]).flatten(), (mask[:, 1:] == mask[:, :-1]).flatten()]).float().mean())


def test_block_mask_is_block_wise() -> None:
    # Independent patches agree with a neighbour in .4^2 + .6^2 = 52% of the cases; rectangles do far more.
    agreement = np.mean([_like_neighbour(block_mask(14, 0.4, np.random.default_rng(s)), 14) for s in range(100)])
    assert agreement > 0.75


def test_block_mask_reaches_every_patch() -> None:
    share_N = torch.stack([block_mask(7, 0.4, np.random.default_rng(s)) for s in range(500)]).float().mean(0)
    # Whole rectangles inside the grid reach the corners least often (BEiT's masks share this).
    assert share_N.min() > 0.05 and share_N.max() < 0.7


@settings(max_examples=150, deadline=None)
@given(words=st.integers(1, 62), ratio=st.floats(0.01, 1), seed=st.integers(0, 2**32))
def test_text_mask_hides_words_only_and_at_least_one(words: int, ratio: float, seed: int) -> None:
    maskable_L = np.array([False] + [True] * words + [False])
    mask_L = text_mask(maskable_L, ratio, np.random.default_rng(seed))
    assert mask_L.dtype == torch.bool and mask_L.shape == maskable_L.shape
    assert not mask_L[[0, -1]].any()
    assert 1 <= int(mask_L.sum()) <= max(1, int(np.ceil(ratio * words)))


def test_text_without_words_is_not_masked() -> None:
    assert not text_mask(np.array([False, False]), 0.5, np.random.default_rng(0)).any()


def test_text_mask_keeps_the_ratio_on_average() -> None:
    maskable_L = np.array([False] + [True] * 9 + [False])  # 15% of 9 words are 1.35
    counts = [int(text_mask(maskable_L, 0.15, np.random.default_rng(s)).sum()) for s in range(3000)]
    assert set(counts) == {1, 2}
    assert np.mean(counts) == pytest.approx(1.35, abs=0.04)  # four standard errors of 0.477 / sqrt(3000)


@settings(max_examples=100, deadline=None)
@given(sizes=st.lists(st.integers(1, 4), min_size=1, max_size=12), ratio=st.floats(0.01, 1), seed=st.integers(0, 2**32))
def test_whole_words_are_hidden_or_seen_as_one(sizes: list[int], ratio: float, seed: int) -> None:
    maskable_L = np.array([False] + [True] * sum(sizes) + [False])
    begins_L = np.zeros(len(maskable_L), dtype=bool)
    begins_L[np.cumsum([1, *sizes[:-1]])] = True
    mask_L = whole_word_mask(maskable_L, begins_L, ratio, np.random.default_rng(seed))
    words = np.split(mask_L.numpy()[1:-1], np.cumsum(sizes)[:-1])
    assert all(word.all() or not word.any() for word in words) and not mask_L[[0, -1]].any()
    assert 1 <= sum(word.all() for word in words) <= max(1, int(np.ceil(ratio * len(sizes))))


def test_whole_words_worked_by_hand() -> None:
    """<s> ▁a ▁bi rd <unk> s </s>: the words are (▁a) and (▁bi, rd, s); the unknown piece is never hidden."""
    maskable_L = np.array([0, 1, 1, 1, 0, 1, 0], dtype=bool)
    begins_L = np.array([0, 1, 1, 0, 0, 0, 0], dtype=bool)
    seen = {
        tuple(whole_word_mask(maskable_L, begins_L, 0.5, np.random.default_rng(seed)).int().tolist())
        for seed in range(30)
    }
    assert seen == {(0, 1, 0, 0, 0, 0, 0), (0, 0, 1, 1, 0, 1, 0)}
    assert not whole_word_mask(maskable_L & False, begins_L, 0.5, np.random.default_rng(0)).any()


def test_whole_words_keep_the_ratio_of_pieces_on_average() -> None:
    maskable_L = np.array([False] + [True] * 10 + [False])
    begins_L = np.isin(np.arange(12), [1, 2, 5, 9])  # words of 1, 3, 4 and 2 pieces
    masks = [whole_word_mask(maskable_L, begins_L, 0.4, np.random.default_rng(s)).sum() for s in range(3000)]
    assert np.mean(masks) == pytest.approx(4.0, abs=0.12)  # four standard errors of about 1.6 / sqrt(3000)


def test_sample_rng_depends_on_every_argument() -> None:
    states = [(0, 0, "a", "s"), (1, 0, "a", "s"), (0, 1, "a", "s"), (0, 0, "b", "s"), (0, 0, "a", "t")]
    first = [int(sample_rng(*state).integers(2**63)) for state in states]
    assert len(set(first)) == len(states)
    assert first == [int(sample_rng(*state).integers(2**63)) for state in states]


def test_sample_rng_is_the_same_in_another_process() -> None:
    code = "from mm_mhmoe_data.masking import *; print(sample_rng(3, 1, 'key', 'pairs').integers(2**63))"
    out = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout
    assert int(out) == int(sample_rng(3, 1, "key", "pairs").integers(2**63))


def test_sample_draws_depend_on_every_argument_and_are_those_of_the_hash() -> None:
    states = [(0, 0, "a", "s"), (1, 0, "a", "s"), (0, 1, "a", "s"), (0, 0, "b", "s"), (0, 0, "a", "t")]
    drawn = [sample_draws(*state) for state in states]
    assert len({number for draws in drawn for number in draws}) == 8 * len(states)
    out = subprocess.run(["b2sum"], input=b"3/1/key/pairs", check=True, capture_output=True).stdout  # 64 bytes
    first, last = (int.from_bytes(bytes.fromhex(out[i : i + 16].decode()), "little") for i in (0, 112))
    assert sample_draws(3, 1, "key", "pairs")[::7] == pytest.approx((first / 2**64, last / 2**64), abs=2**-53)


def test_sample_draws_are_uniform_and_unrelated() -> None:
    draws_n8 = np.array([sample_draws(0, n // 500, str(n % 500), "s") for n in range(4000)])
    assert draws_n8.min() >= 0 and draws_n8.max() < 1
    counts = np.stack([np.bincount((column * 20).astype(int), minlength=20) for column in draws_n8.T])
    # chi-squared of 20 cells: mean 19, standard deviation 6.2
    assert (((counts - 200) ** 2 / 200).sum(1) < 19 + 5 * 6.2).all()
    related = np.corrcoef(np.concatenate([draws_n8[:-1], draws_n8[1:]], 1).T) - np.eye(16)
    assert np.abs(related).max() < 5 / 4000**0.5


@settings(max_examples=100, deadline=None)
@given(
    grid=st.integers(1, 20), ratio=st.floats(0, 1), unit=st.integers(1, 22), kind=st.sampled_from(["random", "cube"])
)
def test_random_and_cube_masks_hide_exactly_the_asked_share(grid: int, ratio: float, unit: int, kind: str) -> None:
    first, again, other = (
        image_mask(grid, ratio, np.random.default_rng(seed), kind=kind, unit=unit)  # type: ignore[arg-type]
        for seed in (1, 1, 2)
    )
    assert first.shape == (grid * grid,) and first.dtype == torch.bool
    assert int(first.sum()) == int(other.sum()) == round(ratio * grid * grid)
    assert torch.equal(first, again)


def test_the_kind_of_an_image_mask_is_the_function_of_that_name() -> None:
    def drawn(function, **options) -> torch.Tensor:
        return function(14, 0.4, np.random.default_rng(3), **options)

    assert torch.equal(drawn(image_mask), drawn(block_mask))
    assert torch.equal(drawn(image_mask, kind="random", unit=3), drawn(random_mask))
    assert torch.equal(drawn(image_mask, kind="cube", unit=3), drawn(cube_mask, unit=3))


def test_random_masks_hide_patches_one_by_one() -> None:
    """Neighbours are alike as often as independent draws without replacement: 78 of 196 hidden, so 51.9% of pairs."""
    masks = [random_mask(14, 0.4, np.random.default_rng(s)) for s in range(200)]
    expected = (78 * 77 + 118 * 117) / (196 * 195)
    assert np.mean([_like_neighbour(mask, 14) for mask in masks]) == pytest.approx(expected, abs=0.01)
    share_N = torch.stack(masks).float().mean(0)
    assert (share_N - 78 / 196).abs().max() < 5 * (0.4 * 0.6 / 200) ** 0.5


@pytest.mark.parametrize(("grid", "unit"), [(14, 2), (12, 3), (7, 2)])
def test_cubes_are_squares_of_which_at_most_one_is_cut(grid: int, unit: int) -> None:
    across = -(-grid // unit)
    hidden = np.zeros((across, across))
    for seed in range(200):
        mask = cube_mask(grid, 0.4, np.random.default_rng(seed), unit=unit).view(grid, grid)
        squares = [mask[unit * r :, unit * c :][:unit, :unit] for r in range(across) for c in range(across)]
        cut = [square for square in squares if square.any() and not square.all()]
        assert len(cut) <= 1
        hidden += np.reshape([bool(square.all()) for square in squares], (across, across))
    # Every square is as likely as any other; five standard errors, and up to one square's worth for the cut one.
    assert np.ptp(hidden / 200) < 10 * (0.4 * 0.6 / 200) ** 0.5 + 1 / across**2


def test_cubes_of_one_patch_are_drawn_as_evenly_as_single_patches() -> None:
    share_N = torch.stack([cube_mask(6, 0.5, np.random.default_rng(s), unit=1) for s in range(400)]).float().mean(0)
    assert (share_N - 0.5).abs().max() < 5 * (0.25 / 400) ** 0.5
