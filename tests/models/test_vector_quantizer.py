"""Truth: brute force over the codebook, and the moving-average formula written out."""

import pytest
import torch
import torch.nn.functional as F

from mm_mhmoe.models.vector_quantizer import VectorQuantizer, perplexity


@pytest.fixture
def quantizer() -> VectorQuantizer:
    torch.manual_seed(0)
    return VectorQuantizer(6, 4, decay=0.9)


def test_the_code_is_that_of_the_largest_cosine(quantizer) -> None:
    vectors = torch.randn(50, 4)
    expected = [
        max(range(6), key=lambda k: F.cosine_similarity(row, quantizer.codebook_KC[k], dim=0).item()) for row in vectors
    ]
    assert quantizer(vectors).codes_N.tolist() == expected
    assert quantizer.assign(vectors).tolist() == expected  # the length of a vector does not matter
    assert len(set(expected)) > 3


def test_autocast_changes_no_choice(quantizer) -> None:
    """Cosines 1 and 0.9995 are the same number in bf16."""
    near = F.normalize(torch.tensor([1.0, 0.03, 0, 0]), dim=0)
    quantizer.codebook_KC[0], quantizer.codebook_KC[1] = torch.tensor([1.0, 0, 0, 0]), near
    assert quantizer.assign(near.unsqueeze(0)).tolist() == [1]
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert quantizer.assign(near.unsqueeze(0)).tolist() == [1]


def test_vectors_are_codes_and_the_commitment_their_distance(quantizer) -> None:
    vectors = torch.randn(50, 4)
    found = quantizer(vectors)
    torch.testing.assert_close(found.vectors_NC, quantizer.codebook_KC[found.codes_N])
    # mean of |u - c|^2 / C, and |u - c|^2 = 2 - 2 cos on unit vectors
    cosine = F.cosine_similarity(vectors, quantizer.codebook_KC[found.codes_N])
    torch.testing.assert_close(found.commitment, (2 - 2 * cosine).mean() / 4)


def test_the_gradient_passes_straight_through(quantizer) -> None:
    """d/dv of <w, q> is that of <w, v / |v|>: as if no code had been chosen."""
    weight = torch.randn(10, 4)
    ours, direct = (torch.randn(10, 4, generator=torch.Generator().manual_seed(1)).requires_grad_() for _ in range(2))
    (quantizer(ours).vectors_NC * weight).sum().backward()
    (F.normalize(direct, dim=-1) * weight).sum().backward()
    torch.testing.assert_close(ours.grad, direct.grad)


def distance(quantizer: VectorQuantizer, vectors: torch.Tensor) -> float:
    return quantizer(vectors).commitment.item()


def test_k_means_start_comes_closer_than_random_codes(quantizer) -> None:
    centres = F.normalize(torch.randn(6, 4), dim=-1)
    vectors = centres.repeat(30, 1) + 0.02 * torch.randn(180, 4)
    before = distance(quantizer, vectors)
    quantizer.start(vectors, iterations=0)
    picked = distance(quantizer, vectors)
    torch.manual_seed(3)
    quantizer.start(vectors, iterations=10)
    torch.testing.assert_close(quantizer.codebook_KC.norm(dim=-1), torch.ones(6))
    assert distance(quantizer, vectors) < before
    torch.manual_seed(3)
    quantizer.start(vectors, iterations=0)
    start = distance(quantizer, vectors)
    torch.manual_seed(3)
    quantizer.start(vectors, iterations=10)
    assert distance(quantizer, vectors) < min(start, picked + 1e-9)


def test_start_needs_a_vector_for_every_code(quantizer) -> None:
    with pytest.raises(ValueError, match="5 vectors for 6 codes"):
        quantizer.start(torch.randn(5, 4))
    quantizer.start(torch.randn(6, 4))


def test_moving_average_formula(quantizer) -> None:
    """New code: normalise(0.9 code + 0.1 normalise(sum of its unit vectors)); a code without vectors stays."""
    vectors = torch.randn(20, 4)
    codes = torch.randint(0, 5, (20,))  # nothing for code 5
    old, old_share = quantizer.codebook_KC.clone(), quantizer.share_K.clone()
    assert quantizer.update(vectors, codes) == 0
    for k in range(6):
        mine = [F.normalize(v, dim=0) for v, c in zip(vectors, codes, strict=True) if c == k]
        expected = old[k]
        if mine:
            expected = F.normalize(0.9 * old[k] + 0.1 * F.normalize(torch.stack(mine).sum(0), dim=0), dim=0)
        torch.testing.assert_close(quantizer.codebook_KC[k], expected)
        torch.testing.assert_close(quantizer.share_K[k], 0.9 * old_share[k] + 0.1 * len(mine) / 20)


def test_sums_over_ranks_are_used(quantizer) -> None:
    """Two ranks with the same batch: all_reduce doubles every sum, and the codebook is that of one rank."""
    vectors = torch.randn(20, 4)
    codes = quantizer.assign(vectors)
    alone = VectorQuantizer(6, 4, decay=0.9)
    alone.load_state_dict(quantizer.state_dict())
    alone.update(vectors, codes)
    shapes = []

    def all_reduce(value: torch.Tensor) -> torch.Tensor:
        shapes.append(tuple(value.shape))
        return 2 * value

    quantizer.update(vectors, codes, all_reduce)
    assert shapes == [(6,), (6, 4)]
    torch.testing.assert_close(quantizer.codebook_KC, alone.codebook_KC)
    torch.testing.assert_close(quantizer.share_K, alone.share_K)


def test_dead_codes_are_put_on_vectors_of_the_batch() -> None:
    torch.manual_seed(0)
    quantizer = VectorQuantizer(6, 4, decay=0.5, revive_below=0.5)
    vectors = torch.randn(20, 4)
    codes = torch.zeros(20, dtype=torch.int64)
    kept = quantizer.codebook_KC[1].clone()
    assert quantizer.update(vectors, codes) == 0  # shares of 1..5: 1/12, not below 0.5 / 6 = 1/12
    assert torch.equal(quantizer.codebook_KC[1], kept)
    assert quantizer.update(vectors, codes) == 5  # 1/24
    unit = F.normalize(vectors, dim=-1)
    for k in range(1, 6):
        assert (unit @ quantizer.codebook_KC[k]).max() > 1 - 1e-5
        assert quantizer.share_K[k] == pytest.approx(1 / 6)
    assert len({tuple(row) for row in quantizer.codebook_KC.tolist()}) == 6


def test_revival_can_be_switched_off() -> None:
    quantizer = VectorQuantizer(6, 4, decay=0.0, revive_below=0.0)
    before = quantizer.codebook_KC.clone()
    assert quantizer.update(torch.randn(20, 4), torch.zeros(20, dtype=torch.int64)) == 0
    assert torch.equal(quantizer.codebook_KC[1:], before[1:])


@pytest.mark.parametrize("revive_below", [0.0, 0.02])
def test_used_codes_are_counted_with_and_without_revival(revive_below: float) -> None:
    """Shares 0.5, 0.4967, 0.0033 against 2% of 1/3, which is 0.0067."""
    quantizer = VectorQuantizer(3, 4, revive_below=revive_below)
    quantizer.share_K.copy_(torch.tensor([0.5, 0.4967, 0.0033]))
    assert quantizer.used.item() == pytest.approx(2 / 3)


def test_perplexity_counts_codes_that_are_used() -> None:
    """By hand: four codes used evenly give 4; shares 1/2, 1/4, 1/4 have the entropy 1.5 ln 2."""
    assert perplexity(torch.tensor([7, 7, 0, 0, 3, 3, 5, 5])).item() == pytest.approx(4.0)
    assert perplexity(torch.tensor([2, 2, 0, 9])).item() == pytest.approx(2**1.5)
    assert perplexity(torch.full((10,), 6)).item() == pytest.approx(1.0)
