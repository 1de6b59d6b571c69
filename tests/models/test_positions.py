"""Truth: BEiT-3's own way of interpolating positions, written out; a table that is linear in place."""

import torch
import torch.nn.functional as F

from mm_mhmoe.models.positions import resample_positions


def test_equals_bicubic_interpolation_of_the_grid() -> None:
    torch.manual_seed(0)
    table_ND = torch.randn(1 + 16, 6)
    grid = table_ND[1:].view(1, 4, 4, 6).permute(0, 3, 1, 2)
    larger = F.interpolate(grid, size=(7, 7), mode="bicubic", align_corners=False).permute(0, 2, 3, 1).reshape(49, 6)
    found = resample_positions(table_ND, 4, 7)
    assert torch.equal(found[0], table_ND[0])
    torch.testing.assert_close(found[1:], larger)


def test_rows_and_columns_stay_what_they_are() -> None:
    """Positions that tell the row of a patch tell it at the larger size too, away from the edge; torch's bicubic kernel
    (a = -.75) meets a straight line to .047."""
    rows = torch.arange(8.0).repeat_interleave(8)
    columns = torch.arange(8.0).repeat(8)
    table_ND = torch.cat([torch.zeros(1, 2), torch.stack([rows, columns], dim=1)])
    found = resample_positions(table_ND, 8, 16)[1:].view(16, 16, 2)
    wanted = (torch.arange(16.0) + 0.5) / 2 - 0.5
    torch.testing.assert_close(found[4:-4, 8, 0], wanted[4:-4], rtol=0, atol=0.05)
    torch.testing.assert_close(found[8, 4:-4, 1], wanted[4:-4], rtol=0, atol=0.05)


def test_the_same_size_changes_nothing() -> None:
    table_ND = torch.randn(10, 4)
    assert resample_positions(table_ND, 3, 3) is table_ND
