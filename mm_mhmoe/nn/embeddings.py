"""From pixels and token ids to the encoder's input.

Legend: B batch, C channels, N patches, P values of a patch, L text length, D model dim.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

# Of the size of a patch's embedding and of what a block adds: with the usual 0.02, the first block's output would drown
# which token it was.
TOKEN_STD, POSITION_STD = 1.0, 0.3


def patchify(pixels_BCHW: Tensor, patch_size: int) -> Tensor:
    """Pictures as rows of patches, row-major, channels first inside a patch: (B, C, H, W) -> (B, N, P)."""
    height, width = pixels_BCHW.shape[-2:]
    if height % patch_size or width % patch_size:
        raise ValueError(f"a picture of {height}x{width} pixels cannot be cut into patches of {patch_size}; resize it")
    return rearrange(pixels_BCHW, "b c (h p) (w q) -> b (h w) (c p q)", p=patch_size, q=patch_size)


def unpatchify(patches_BNP: Tensor, patch_size: int) -> Tensor:
    """The inverse of `patchify`, for square pictures."""
    side = round(patches_BNP.shape[1] ** 0.5)
    if side**2 != patches_BNP.shape[1]:
        raise ValueError(f"{patches_BNP.shape[1]} patches do not make a square picture")
    return rearrange(patches_BNP, "b (h w) (c p q) -> b c (h p) (w q)", h=side, p=patch_size, q=patch_size)


class PatchEmbedding(nn.Module):
    """A linear map of each patch, after pixels are normalised by mean and deviation.

    Args:
        patch_size: side of a patch.
        dim: width of a token.
        mean: of each channel, with black 0 and white 1 (.5 in BEiT-3).
        std: of each channel, in the same scale (.5 in BEiT-3).
    """

    mean_P: Tensor
    scale_P: Tensor

    def __init__(
        self,
        patch_size: int,
        dim: int,
        *,
        mean: Sequence[float] = (0.5, 0.5, 0.5),
        std: Sequence[float] = (0.5, 0.5, 0.5),
    ) -> None:
        super().__init__()
        self.patch_size = patch_size
        self.proj = nn.Linear(len(mean) * patch_size**2, dim)
        # In the order of a patch's values; constants of the configuration, so not in checkpoints.
        self.register_buffer("mean_P", torch.tensor(mean).repeat_interleave(patch_size**2), persistent=False)
        self.register_buffer("scale_P", 1 / torch.tensor(std).repeat_interleave(patch_size**2), persistent=False)

    def forward(self, pixels_BCHW: Tensor) -> Tensor:
        """uint8, or floats in [-1, 1]: (B, C, H, W) -> (B, N, D).

        Normalising is linear, so it is done to the weights, which are fewer than the pixels. Not under autocast: the
        offset is a difference of large numbers.
        """
        unit, black = (255.0, 0.0) if pixels_BCHW.dtype == torch.uint8 else (2.0, -1.0)
        with torch.autocast(pixels_BCHW.device.type, enabled=False):
            weight_DP = self.proj.weight * (self.scale_P / unit)
            bias_D = self.proj.bias - weight_DP @ (self.mean_P * unit + black)
        patches_BNP = patchify(pixels_BCHW, self.patch_size).to(weight_DP.dtype)
        return F.linear(patches_BNP, weight_DP, bias_D)


class ImageEmbedding(nn.Module):
    """[CLS] and patches with learned positions; hidden patches are replaced by the mask token.

    Args:
        positions: whether there are learned positions.
    """

    def __init__(self, patch: PatchEmbedding, num_patches: int, dim: int, *, positions: bool = True) -> None:
        super().__init__()
        self.num_patches = num_patches
        self.patch = patch
        self.cls_token_D = nn.Parameter(torch.empty(dim))
        self.mask_token_D = nn.Parameter(torch.empty(dim))
        self.positions_ND = nn.Parameter(torch.empty(1 + num_patches, dim)) if positions else None
        nn.init.trunc_normal_(self.cls_token_D, std=TOKEN_STD)
        nn.init.trunc_normal_(self.mask_token_D, std=TOKEN_STD)
        if self.positions_ND is not None:
            nn.init.trunc_normal_(self.positions_ND, std=POSITION_STD)

    def forward(self, pixels_BCHW: Tensor, masked_BN: Tensor | None = None) -> Tensor:
        """(B, C, H, W) -> (B, 1 + N, D). Raises ValueError for another number of patches or shape of the mask."""
        x_BND = self.patch(pixels_BCHW)
        if x_BND.shape[1] != self.num_patches:
            raise ValueError(
                f"{x_BND.shape[1]} patches a picture, but the encoder has positions for {self.num_patches}"
            )
        if masked_BN is not None:
            if masked_BN.shape != x_BND.shape[:2]:
                raise ValueError(f"patch mask of shape {tuple(masked_BN.shape)} for patches {tuple(x_BND.shape[:2])}")
            x_BND = torch.where(masked_BN.unsqueeze(-1), self.mask_token_D.to(x_BND.dtype), x_BND)
        cls_B1D = self.cls_token_D.to(x_BND.dtype).expand(len(x_BND), 1, -1)
        x_BND = torch.cat([cls_B1D, x_BND], dim=1)
        return x_BND if self.positions_ND is None else x_BND + self.positions_ND


class TextEmbedding(nn.Module):
    """Tokens with learned positions; hidden tokens are replaced by the row of the mask id.

    Args:
        positions: whether there are learned positions.
        scale: factor on the table's rows, which start as much smaller.
    """

    def __init__(
        self,
        vocab_size: int,
        max_length: int,
        dim: int,
        mask_id: int,
        *,
        positions: bool = True,
        scale: float = 1.0,
    ) -> None:
        super().__init__()
        self.mask_id = mask_id
        self.scale = scale
        self.tokens = nn.Embedding(vocab_size, dim)
        self.positions_LD = nn.Parameter(torch.empty(max_length, dim)) if positions else None
        nn.init.trunc_normal_(self.tokens.weight, std=TOKEN_STD / scale)
        if self.positions_LD is not None:
            nn.init.trunc_normal_(self.positions_LD, std=POSITION_STD)

    def forward(self, ids_BL: Tensor, masked_BL: Tensor | None = None, place_BL: Tensor | None = None) -> Tensor:
        """(B, L) -> (B, L, D). Raises ValueError for texts longer than the position table.

        Args:
            place_BL: the position of each token; None: every row begins at 0.
        """
        if masked_BL is not None:
            ids_BL = ids_BL.masked_fill(masked_BL, self.mask_id)
        x_BLD = self.tokens(ids_BL) if self.scale == 1.0 else self.tokens(ids_BL) * self.scale
        if self.positions_LD is None:
            return x_BLD
        length = ids_BL.shape[1] if place_BL is None else int(place_BL.max()) + 1
        if length > len(self.positions_LD):
            raise ValueError(f"texts of {length} tokens, but the encoder has positions for {len(self.positions_LD)}")
        positions_LD = self.positions_LD[:length] if place_BL is None else self.positions_LD[place_BL]
        return x_BLD + positions_LD
