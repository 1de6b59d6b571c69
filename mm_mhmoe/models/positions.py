"""Learned positions of patches for pictures of another size.

Legend: N patches and [CLS], D model dim, R kinds of pairs of patches, H attention heads.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping

from torch import Tensor

from mm_mhmoe.nn.relative_position import CLS_ENTRIES


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


def resample_relative(table_RH: Tensor, before: int, after: int) -> Tensor:
    """((2 before - 1)^2 + 3, H) -> ((2 after - 1)^2 + 3, H), as BEiT's code does it: offsets that grow in geometric
    progression, so that near ones keep their addends; the three of [CLS] stay. Linear between them, as timm.

    Args:
        before: patches along one side.
        after: wanted.
    """
    if before == after:
        return table_RH
    from timm.layers import resize_rel_pos_bias_table

    shape = ((2 * after - 1) ** 2 + CLS_ENTRIES, table_RH.shape[1])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of how timm indexes
        return resize_rel_pos_bias_table(table_RH, (after, after), shape)


def resample_weights(weights: Mapping[str, Tensor], before: int, after: int) -> dict[str, Tensor]:
    """The weights of an encoder, or of a model around it, for pictures of another size."""
    resampled = dict(weights)
    for name, value in weights.items():
        if name.removeprefix("encoder.") == "image.positions_ND":
            resampled[name] = resample_positions(value, before, after)
        elif name.endswith("relative_positions.table_RH"):
            resampled[name] = resample_relative(value, before, after)
    return resampled
