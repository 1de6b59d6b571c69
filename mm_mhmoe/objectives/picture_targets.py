"""What hidden patches are to be predicted as: codes, normalised pixels, or a teacher's features.

Each target holds what it needs frozen, computes targets from whole pictures, and has its loss at hidden patches.

Shapes: B batch, N patches, D model dim, M masked positions, P values of a target.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mm_mhmoe.batch import Images
from mm_mhmoe.models.teachers import Teacher
from mm_mhmoe.models.visual_tokenizer import VisualTokenizer
from mm_mhmoe.nn import patchify
from mm_mhmoe.objectives.masked import MaskedLoss, masked_cross_entropy

FeatureLoss = Literal["cosine", "smooth_l1"]
Head = Callable[[Tensor], Tensor]

# Of a flat patch, whose pixels have no deviation (MAE's code).
_EPS = 1e-6


class Coder(Protocol):
    """What gives patches their codes; a `VisualTokenizer`."""

    def codes(self, pixels_BCHW: Tensor) -> Tensor: ...


class CodeTarget(nn.Module):
    """The codes of a frozen visual tokenizer, which sees the whole picture (BEiT, arXiv 2106.08254): cross-entropy."""

    def __init__(self, tokenizer: Coder) -> None:
        super().__init__()
        self.tokenizer = tokenizer
        _freeze(self)

    @property
    def outputs(self) -> int:
        assert isinstance(self.tokenizer, VisualTokenizer)
        return self.tokenizer.config.num_codes

    def of(self, images: Images) -> Tensor:
        """Codes (B, N): those that came with the pictures, else the tokenizer's."""
        return images.codes_BN if images.codes_BN is not None else self.tokenizer.codes(images.pixels_BCHW)

    def loss(self, states_BND: Tensor, masked_BN: Tensor, targets_BN: Tensor, head: Head) -> MaskedLoss:
        return masked_cross_entropy(states_BND, masked_BN, targets_BN, head)


class PixelTarget(nn.Module):
    """Pixels of each patch, brought to mean 0 and deviation 1 over its values, and their mean squared error.

    The target and loss of MAE (arXiv 2111.06377, section 3; from its released code: unbiased variance, eps
    1e-6). There a decoder predicts; here it is one linear head on the encoder's mask tokens (SimMIM, 2111.09886).
    """

    def __init__(self, patch_size: int, *, channels: int = 3) -> None:
        super().__init__()
        self.patch_size = patch_size
        self.outputs = channels * patch_size**2

    def of(self, images: Images) -> Tensor:
        """(B, N, P), channels first inside a patch. Flat patches are zero."""
        pixels = images.pixels_BCHW
        pixels = pixels.float() / 255.0 if pixels.dtype == torch.uint8 else (pixels.float() + 1.0) / 2.0
        patches_BNP = patchify(pixels, self.patch_size)
        variance_BN1, mean_BN1 = torch.var_mean(patches_BNP, dim=-1, keepdim=True)
        return (patches_BNP - mean_BN1) / (variance_BN1 + _EPS).sqrt()

    def loss(self, states_BND: Tensor, masked_BN: Tensor, targets_BNP: Tensor, head: Head) -> MaskedLoss:
        predicted_MP, targets_MP = _hidden(states_BND, masked_BN, targets_BNP, head)
        return _averaged((predicted_MP - targets_MP).square().mean(dim=-1), "mse")


class FeatureTarget(nn.Module):
    """A frozen teacher's features of each patch.

    Args:
        loss: cosine: 1 - cosine, as EVA (arXiv 2211.07636) compares with CLIP; smooth_l1: of features brought to mean 0
            and deviation 1 over their values, as data2vec (2202.03555) normalises its targets, with torch's beta of 1.
    """

    def __init__(self, teacher: Teacher, *, loss: FeatureLoss = "cosine") -> None:
        super().__init__()
        if loss not in ("cosine", "smooth_l1"):
            raise ValueError(f"feature_loss={loss} must be cosine or smooth_l1")
        self.teacher = teacher
        self.measure = {"cosine": "cosine_distance", "smooth_l1": "smooth_l1"}[loss]
        self.outputs = teacher.dim
        _freeze(self)

    @torch.no_grad()
    def of(self, images: Images) -> Tensor:
        """(B, N, P)."""
        features_BNP = self.teacher(images.pixels_BCHW).float()
        return features_BNP if self.measure == "cosine_distance" else F.layer_norm(features_BNP, (self.outputs,))

    def loss(self, states_BND: Tensor, masked_BN: Tensor, targets_BNP: Tensor, head: Head) -> MaskedLoss:
        predicted_MP, targets_MP = _hidden(states_BND, masked_BN, targets_BNP, head)
        if self.measure == "cosine_distance":
            return _averaged(1.0 - F.cosine_similarity(predicted_MP, targets_MP, dim=-1), self.measure)
        return _averaged(F.smooth_l1_loss(predicted_MP, targets_MP, reduction="none").mean(dim=-1), self.measure)


def _freeze(target: nn.Module) -> None:
    target.eval().requires_grad_(False)


def _hidden(states_BND: Tensor, masked_BN: Tensor, targets_BNP: Tensor, head: Head) -> tuple[Tensor, Tensor]:
    """Outputs and targets at hidden patches, in fp32. Their number is that of the mask ratio, the same every step."""
    return head(states_BND[masked_BN]).float(), targets_BNP[masked_BN]


def _averaged(loss_M: Tensor, measure: str) -> MaskedLoss:
    # Without hidden patches the sum is a zero that gradients can go through.
    return MaskedLoss(loss_M.mean() if len(loss_M) else loss_M.sum(), len(loss_M), None, measure)
