"""Initial weights of a stack of blocks."""

from __future__ import annotations

import math

import torch
from torch import nn

from mm_mhmoe.nn import Experts, FeedForward, MultiHeadMoE, SelfAttention, ways


@torch.no_grad()
def initialize(model: nn.Module, *, depth: int, sub_ln: bool) -> None:
    """Xavier-uniform matrices and zero biases; with sub-LN, the value, output and FFN matrices are scaled by
    sqrt(ln 2L) (Magneto, arXiv 2210.06423, as BEiT-3 uses it). MH-MoE's head and merge layers keep their own start.

    The released BEiT-3 code overwrites this scale by a later normal(0.02) reset; here it stays.
    """
    multihead = [m for m in model.modules() if isinstance(m, MultiHeadMoE)]
    own_start = {id(layer.weight) for m in multihead for layer in m.projections()}
    for module in model.modules():
        if isinstance(module, nn.Linear) and id(module.weight) not in own_start:
            nn.init.xavier_uniform_(module.weight)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
        elif isinstance(module, Experts):
            for matrix_EIO in (module.w1_EdF, module.w2_EFd):
                for matrix in matrix_EIO:
                    nn.init.xavier_uniform_(matrix)
    for module in model.modules():
        if isinstance(module, SelfAttention):
            for qkv in ways(module.qkv):
                for matrix in qkv.get_parameter("weight").chunk(3):
                    nn.init.xavier_uniform_(matrix)
    if sub_ln:
        _scale(model, math.sqrt(math.log(2 * depth)))


def _scale(model: nn.Module, gain: float) -> None:
    for module in model.modules():
        if isinstance(module, SelfAttention):
            for qkv, proj in zip(ways(module.qkv), ways(module.proj), strict=True):
                qkv.get_parameter("weight").chunk(3)[2].mul_(gain)
                proj.get_parameter("weight").mul_(gain)
        elif isinstance(module, FeedForward):
            module.fc1.weight.mul_(gain)
            module.fc2.weight.mul_(gain)
        elif isinstance(module, Experts):
            module.w1_EdF.mul_(gain)
            module.w2_EFd.mul_(gain)
