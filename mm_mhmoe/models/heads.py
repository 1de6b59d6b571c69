"""Heads on the encoder's last hidden states.

Shapes: B batch, N patches, M masked positions, D model dim, V tokens or codes, P embedding dim, A answers, C classes,
F features.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class MaskedHead(nn.Linear):
    """Logits over tokens or visual codes, or a patch's other target, for masked positions only: (M, D) -> (M, V)."""

    def __init__(self, dim: int, num_classes: int) -> None:
        super().__init__(dim, num_classes)
        nn.init.trunc_normal_(self.weight, std=0.02)
        nn.init.zeros_(self.bias)


class ContrastiveHead(nn.Module):
    """L2-normalised projections of both [CLS] states and a learned temperature (CLIP, arXiv 2103.00020).

    Args:
        max_scale: the logit scale is kept at most this (CLIP: 100).
    """

    def __init__(self, dim: int, embed_dim: int, *, max_scale: float = 100.0) -> None:
        super().__init__()
        self.image_proj = nn.Linear(dim, embed_dim, bias=False)
        self.text_proj = nn.Linear(dim, embed_dim, bias=False)
        self.log_scale = nn.Parameter(torch.tensor(math.log(1 / 0.07)))
        self.max_log_scale = math.log(max_scale)

    def embed_image(self, cls_BD: Tensor) -> Tensor:
        return F.normalize(self.image_proj(cls_BD).float(), dim=-1)

    def embed_text(self, cls_BD: Tensor) -> Tensor:
        return F.normalize(self.text_proj(cls_BD).float(), dim=-1)

    @property
    def scale(self) -> Tensor:
        return self.log_scale.clamp(max=self.max_log_scale).exp()


class MatchHead(nn.Linear):
    """Logits from the pair's [CLS]: [0] picture and text do not belong together, [1] they do. (B, D) -> (B, 2)."""

    def __init__(self, dim: int) -> None:
        super().__init__(dim, 2)
        nn.init.trunc_normal_(self.weight, std=0.02)
        nn.init.zeros_(self.bias)


class AnswerHead(nn.Module):
    """Logits over an answer vocabulary from the pair's [CLS]: pooler and two-layer classifier, as BEiT-3 for VQA."""

    def __init__(self, dim: int, num_answers: int, *, norm_eps: float = 1e-5) -> None:
        super().__init__()
        self.pool = nn.Sequential(nn.LayerNorm(dim, eps=norm_eps), nn.Linear(dim, dim), nn.Tanh())
        answer = nn.Linear(2 * dim, num_answers)
        self.classify = nn.Sequential(nn.Linear(dim, 2 * dim), nn.LayerNorm(2 * dim, eps=norm_eps), nn.GELU(), answer)
        for layer in self.modules():
            if isinstance(layer, nn.Linear):
                nn.init.trunc_normal_(layer.weight, std=0.02)
                nn.init.zeros_(layer.bias)
        # Each answer starts as likely as one of num_answers: from one half, the first steps would only learn that most
        # answers are wrong (the prior of focal loss, arXiv 1708.02002).
        nn.init.constant_(answer.bias, -math.log(max(1, num_answers - 1)))

    def forward(self, cls_BD: Tensor) -> Tensor:
        return self.classify(self.pool(cls_BD))


class TwoPictureHead(nn.Module):
    """Logits from what two pairs with one text say, [picture [CLS]; text [CLS]] of each: BEiT-3's head for NLVR2.

    (B, 4 D) -> (B, C). The first logits are almost zero, as in BEiT-3's code, which scales both layers' weights.
    """

    def __init__(self, dim: int, num_classes: int = 2, *, norm_eps: float = 1e-5) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(4 * dim, eps=norm_eps)
        self.hidden = nn.Linear(4 * dim, 2 * dim)
        self.hidden_norm = nn.LayerNorm(2 * dim, eps=norm_eps)
        self.classify = nn.Linear(2 * dim, num_classes)
        for layer in (self.hidden, self.classify):
            _start_small(layer)

    def forward(self, cls_BF: Tensor) -> Tensor:
        return self.classify(F.gelu(self.hidden_norm(self.hidden(self.norm(cls_BF)))))


class ClassHead(nn.Module):
    """Logits over classes from the mean state of the patches, without [CLS]: BEiT-3's head for ImageNet.

    (B, N, D) -> (B, C). The first logits are almost zero, as in BEiT-3's code.
    """

    def __init__(self, dim: int, num_classes: int, *, norm_eps: float = 1e-5) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(dim, eps=norm_eps)
        self.classify = nn.Linear(dim, num_classes)
        _start_small(self.classify)

    def forward(self, patch_BND: Tensor) -> Tensor:
        return self.classify(self.norm(patch_BND.mean(dim=1)))


def _start_small(layer: nn.Linear) -> None:
    nn.init.trunc_normal_(layer.weight, std=0.02)
    with torch.no_grad():
        layer.weight.mul_(1e-3)
    nn.init.zeros_(layer.bias)
