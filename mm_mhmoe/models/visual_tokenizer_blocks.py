"""The two stacks of blocks that a visual tokenizer can be made of.

Shapes: B batch, N patches, T tokens, D model dim.
"""

from __future__ import annotations

import math
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from mm_mhmoe.models.block import Block
from mm_mhmoe.nn import FeedForward, Segment, SelfAttention

# Both are lists of modules, so that weights are called encoder_blocks.0..., and run as one.


class SubLNBlocks(nn.ModuleList):
    """Blocks of the encoder that is pretrained on the codes: pre-LN with sub-LN, patches alone."""

    def __init__(self, dim: int, num_heads: int, depth: int) -> None:
        super().__init__(
            Block(SelfAttention(dim, num_heads), FeedForward(dim, 4 * dim), dim=dim, drop_path=0.0, norm_eps=1e-5)
            for _ in range(depth)
        )

    def forward(self, states_BND: Tensor) -> Tensor:
        segments = [Segment(states_BND.shape[0], states_BND.shape[1], None)]
        x_TD = states_BND.flatten(0, 1)
        for block in self:
            x_TD, _ = block(x_TD, segments, None)
        return x_TD.unflatten(0, states_BND.shape[:2])


class BEiT2Blocks(nn.ModuleList):
    """timm's BEiT blocks as the released VQ-KD has them: pre-LN, no bias of keys, layer scale or relative position.

    A [CLS] token goes through them with the patches and is dropped at the end. Its position is part of it: the sum of
    the two is all that the released model ever uses.
    """

    def __init__(self, dim: int, num_heads: int, depth: int) -> None:
        from timm.models.beit import Block as BEiTBlock  # here, because timm imports all its models

        norm: Any = partial(nn.LayerNorm, eps=1e-6)  # timm asks for a class, and calls it
        super().__init__(BEiTBlock(dim, num_heads, qkv_bias=True, norm_layer=norm) for _ in range(depth))
        self.cls_token_D = nn.Parameter(torch.empty(dim))

    def forward(self, states_BND: Tensor) -> Tensor:
        cls_B1D = self.cls_token_D.to(states_BND.dtype).expand(len(states_BND), 1, -1)
        states_BLD = torch.cat([cls_B1D, states_BND], dim=1)
        for block in self:
            states_BLD = block(states_BLD)
        return states_BLD[:, 1:]


@torch.no_grad()
def initialize_as_beit2(*parts: nn.Module) -> None:
    """The initial weights of the released code: truncated normal(.02), zero biases, and what each block adds to its
    input divided by sqrt(2 * its number). Embeddings of patches and codes keep torch's own start there, as here.
    """
    for part in parts:
        for module in part.modules():
            if isinstance(module, nn.Linear):
                nn.init.trunc_normal_(module.weight, std=0.02)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
        if isinstance(part, BEiT2Blocks):
            nn.init.trunc_normal_(part.cls_token_D, std=0.02)
            block: Any
            for number, block in enumerate(part, start=1):
                block.attn.proj.weight.div_(math.sqrt(2.0 * number))
                block.mlp.fc2.weight.div_(math.sqrt(2.0 * number))
