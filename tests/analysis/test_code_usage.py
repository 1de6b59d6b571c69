"""Truth: counts, means and cosines written out as loops. Codes and features are random."""

import pytest
import torch
import torch.nn.functional as F

from mm_mhmoe.analysis.code_usage import CodeUsage


def test_sums_over_batches_are_those_of_a_loop() -> None:
    torch.manual_seed(0)
    usage = CodeUsage(6, 4, 3)
    codes = torch.randint(0, 5, (5, 8))  # never code 5
    pixels, target, predicted = torch.rand(5, 8, 4), torch.randn(5, 8, 3) + 1.0, torch.randn(5, 8, 3)
    shown = torch.cat(
        [usage.add(codes[part], pixels[part], target[part], predicted[part]) for part in (slice(0, 2), slice(2, 5))]
    )
    flat = [(int(codes[b, n]), pixels[b, n], target[b, n], predicted[b, n]) for b in range(5) for n in range(8)]
    for code in range(6):
        mine = [patch for c, patch, _, _ in flat if c == code]
        assert usage.counts_K[code] == len(mine)
        wanted = torch.stack(mine).mean(dim=0) if mine else torch.zeros(4)
        torch.testing.assert_close(usage.mean_patches_KV[code], wanted)
    cosines = [F.cosine_similarity(t, p, dim=0).item() for _, _, t, p in flat]
    assert shown.flatten().tolist() == pytest.approx(cosines, abs=1e-5)
    report = usage.report()
    assert (report.patches, report.num_codes, report.used) == (40, 6, len({c for c, *_ in flat}))
    assert report.cosine == pytest.approx(sum(cosines) / 40, abs=1e-5)


def test_the_best_single_direction_is_the_mean_of_unit_targets() -> None:
    """Brute force over a circle of directions."""
    torch.manual_seed(1)
    target = torch.randn(1, 50, 2) + torch.tensor([0.7, -0.2])
    usage = CodeUsage(2, 1, 2)
    usage.add(torch.zeros(1, 50, dtype=torch.int64), torch.zeros(1, 50, 1), target, target)
    angles = torch.linspace(0, 2 * torch.pi, 20_000)
    directions = torch.stack([angles.cos(), angles.sin()], dim=1)
    best = (F.normalize(target[0], dim=-1) @ directions.t()).mean(dim=0).max().item()
    assert usage.report().one_code_cosine == pytest.approx(best, abs=1e-4)
    assert usage.report().perplexity == pytest.approx(1.0)


def test_no_pictures_are_an_error() -> None:
    with pytest.raises(ValueError, match="no pictures"):
        CodeUsage(2, 1, 2).report()
