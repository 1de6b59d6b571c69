"""Experts as copies of a dense FFN, on whole tokens. Legend: E experts, I and O sides of a matrix."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from mm_mhmoe.models.upcycling.layers import moe_of
from mm_mhmoe.nn import Experts, FeedForward, MultiHeadMoE


def copy_start(ffn: nn.Module, dense: FeedForward, *, noise: float) -> None:
    """Fills a sparse layer on whole tokens with copies of the dense FFN; the router stays as it is."""
    moe = moe_of(ffn)
    copy_to_all(moe.experts, dense)
    add_noise(moe.experts, noise)
    if isinstance(moe.shared, FeedForward):
        copies = moe.shared.fc1.weight.shape[0] // dense.fc1.weight.shape[0]
        _repeat_hidden_units(moe.shared, dense, copies)
        moe.experts.w2_EFd.zero_()
        given(moe.experts.b2_Ed).zero_()
    if isinstance(ffn, MultiHeadMoE):
        for layer in ffn.projections():
            nn.init.eye_(layer.weight)
            nn.init.zeros_(layer.bias)


def copy_to_all(experts: Experts, dense: FeedForward) -> None:
    """Makes every expert the dense FFN. Both have biases."""
    experts.w1_EdF[:] = dense.fc1.weight.t()
    given(experts.b1_EF)[:] = dense.fc1.bias
    experts.w2_EFd[:] = dense.fc2.weight.t()
    given(experts.b2_Ed)[:] = dense.fc2.bias
    if isinstance(dense.norm, nn.LayerNorm):
        given(experts.norm_scale_EF)[:] = dense.norm.weight
        given(experts.norm_bias_EF)[:] = dense.norm.bias


def add_noise(experts: Experts, noise: float) -> None:
    """Normal noise on both matrices of every expert, relative to the deviation of that matrix."""
    for matrix_EIO in (experts.w1_EdF, experts.w2_EFd) if noise else ():
        deviation_E11 = matrix_EIO.std(dim=(1, 2), keepdim=True)
        matrix_EIO.add_(noise * deviation_E11 * torch.randn_like(matrix_EIO))


def _repeat_hidden_units(shared: FeedForward, dense: FeedForward, times: int) -> None:
    """The same function with each hidden unit `times` times; the LayerNorm sees the same mean and deviation."""
    shared.fc1.weight.copy_(dense.fc1.weight.repeat(times, 1))
    shared.fc1.bias.copy_(dense.fc1.bias.repeat(times))
    shared.fc2.weight.copy_(dense.fc2.weight.repeat(1, times) / times)
    shared.fc2.bias.copy_(dense.fc2.bias)
    if isinstance(dense.norm, nn.LayerNorm) and isinstance(shared.norm, nn.LayerNorm):
        shared.norm.weight.copy_(dense.norm.weight.repeat(times))
        shared.norm.bias.copy_(dense.norm.bias.repeat(times))


def given(parameter: Tensor | None) -> Tensor:
    """A parameter that is there in this kind of layer."""
    assert parameter is not None
    return parameter
