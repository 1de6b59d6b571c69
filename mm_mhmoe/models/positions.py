"""Learned positions of patches for pictures of another size. Legend: N patches and [CLS], D model dim."""

from __future__ import annotations

from torch import Tensor


def resample_positions(positions_ND: Tensor, before: int, after: int) -> Tensor:
    """(1 + before^2, D) -> (1 + after^2, D), bicubic, without antialiasing as BEiT-3's code; [CLS] stays.

    Args:
        before: patches along one side, row-major.
        after: wanted.
    """
    if before == after:
        return positions_ND
    from timm.layers import resample_abs_pos_embed  # here, because importing it takes longer than all else together

    resampled_1ND = resample_abs_pos_embed(
        positions_ND.unsqueeze(0), [after, after], [before, before], num_prefix_tokens=1, antialias=False
    )
    return resampled_1ND[0]
