"""A start for MH-MoE with several heads from a dense FFN. It does not preserve the function: none can.

The paper (arXiv 2404.15045) trains from random weights only; this construction is our own.

An expert sees d = D / H numbers of a token and gives d back, while every hidden unit of a dense FFN reads all D and
writes all D. What is left of it is what passes through H bottlenecks of width d.

Legend: T tokens, D model dim, F hidden dim of the dense FFN, H heads, d = D / H, E experts, R routing dim, h hidden dim
of an expert.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mm_mhmoe.models.upcycling.copies import add_noise, given
from mm_mhmoe.models.upcycling.layers import moe_of
from mm_mhmoe.nn import FeedForward, MultiHeadMoE, XMoERouter

# What tells heads apart, against values of about 1 in a sub-token; and the router's answer to it, which puts the logits
# of a head's own experts that far above all others (e^-8 of the probability) without much of a z-loss.
_TAG = 8.0
_GATE = 0.5
_RIDGE = 1e-3


def multihead_start(ffn: MultiHeadMoE, dense: FeedForward, inputs_TD: Tensor, *, noise: float = 0.0) -> None:
    """Fills an MH-MoE layer with what it can take over of a dense FFN.

    1. The hidden units are cut into H groups, one a head, and a head's experts hold its group (narrower ones a part of
       it; wider ones also units of the next groups, and then the same ones again). Head i of the multi-head layer
       projects onto the d directions that its group's rows of the first matrix fill most, and its columns of the merge
       layer are the d directions that the group's columns of the second matrix fill most: both are best approximations
       of rank d (Eckart-Young).
    2. A constant that the multi-head layer's bias adds tells heads apart. The router sends head i to experts i, i + H,
       ..., clones of one another, among which its fresh weights choose. The experts' bias takes the constant off again.
    3. The merge layer is fitted anew on `inputs_TD` by least squares, so that it makes up for what it can.

    Args:
        ffn: in evaluation mode, with one multi-head and one merge layer, at least H experts and d >= H. Its router's
            weights are fresh.
        dense: with biases.
        inputs_TD: what the dense FFN gets.
        noise: as in `to_sparse`.
    """
    moe = moe_of(ffn)
    for head in range(ffn.heads):
        _fill_head(ffn, dense, head)
    if isinstance(moe.router, XMoERouter):
        _tell_heads_apart_in_low_dimension(moe.router, ffn.heads)
    else:
        _tell_heads_apart(moe.router.get_parameter("gate.weight"), ffn.heads)
    add_noise(moe.experts, noise)
    if isinstance(moe.shared, FeedForward):  # it cannot know which head it works for: it starts silent
        nn.init.zeros_(moe.shared.fc2.weight)
        nn.init.zeros_(moe.shared.fc2.bias)
    _fit_merge(ffn, dense, inputs_TD.to(dense.fc1.weight.dtype))


def synthetic_inputs(scale_D: Tensor, bias_D: Tensor, *, eps: float) -> Tensor:
    """What a LayerNorm of this scale and bias makes of random directions: in place of an FFN's real inputs."""
    dim = len(scale_D)
    return F.layer_norm(torch.randn(8 * dim, dim, dtype=scale_D.dtype), (dim,), scale_D, bias_D, eps)


def leading_directions(rows_ND: Tensor, count: int) -> Tensor:
    """The `count` orthonormal directions that hold most of the rows' squared length, the best first: (count, D)."""
    wide_ND = rows_ND.double()
    _, directions_DD = torch.linalg.eigh(wide_ND.t() @ wide_ND)
    return directions_DD.t().flip(0)[:count].to(rows_ND.dtype)


def _fill_head(ffn: MultiHeadMoE, dense: FeedForward, head: int) -> None:
    experts, first, last = moe_of(ffn).experts, _linear(ffn.head), _linear(ffn.merge)
    width, hidden, full = experts.w1_EdF.shape[1], experts.w2_EFd.shape[1], len(dense.fc1.bias)
    units_h = (torch.arange(hidden) + head * full // ffn.heads) % full
    w1_hD, w2_Dh, scale_h = dense.fc1.weight[units_h], dense.fc2.weight[:, units_h], None
    if isinstance(dense.norm, nn.LayerNorm):
        scale_h = dense.norm.weight[units_h]
        given(experts.norm_scale_EF)[head :: ffn.heads] = scale_h
        given(experts.norm_bias_EF)[head :: ffn.heads] = dense.norm.bias[units_h]
    own = slice(full // ffn.heads)  # the first ones; wider experts also hold units of the next heads
    read_dD = leading_directions(w1_hD[own], width)
    write_dD = leading_directions((w2_Dh if scale_h is None else w2_Dh * scale_h).t()[own], width)
    tag_d = torch.zeros(width, dtype=read_dD.dtype)
    tag_d[tag_place(head, width)] = _TAG
    w1_dh = read_dD @ w1_hD.t()

    rows = slice(head * width, (head + 1) * width)
    first.weight[rows], first.bias[rows] = read_dD, tag_d
    last.weight[:, rows], last.bias[:] = write_dD.t(), dense.fc2.bias
    experts.w1_EdF[head :: ffn.heads] = w1_dh
    given(experts.b1_EF)[head :: ffn.heads] = dense.fc1.bias[units_h] - tag_d @ w1_dh
    # Where experts hold more or less than a group, each unit counts by its share.
    experts.w2_EFd[head :: ffn.heads] = full / (ffn.heads * hidden) * (write_dD @ w2_Dh).t()
    given(experts.b2_Ed)[head :: ffn.heads] = 0.0


def tag_place(head: int, width: int) -> int:
    """The coordinate of a sub-token that is large in this head only: one of those that hold least of the token."""
    return width - 1 - head


def _tell_heads_apart(gate_Ed: Tensor, heads: int) -> None:
    width = gate_Ed.shape[1]
    for head in range(heads):
        gate_Ed[:, tag_place(head, width)] = -_GATE
        gate_Ed[head::heads, tag_place(head, width)] = _GATE


def _tell_heads_apart_in_low_dimension(router: XMoERouter, heads: int) -> None:
    """The first H routing dimensions are the heads' tags; the fresh ones after them choose among a head's experts."""
    reduce_Rd, embeddings_ER = router.reduce.weight, router.embeddings_ER
    places = [tag_place(head, reduce_Rd.shape[1]) for head in range(heads)]
    reduce_Rd[:, places] = 0.0
    reduce_Rd[:heads] = 0.0
    embeddings_ER[:, :heads] = 0.0
    embeddings_ER[:, heads:] *= _GATE
    for head, place in enumerate(places):
        reduce_Rd[head, place] = 1.0
        embeddings_ER[head::heads, head] = 1.0


def _fit_merge(ffn: MultiHeadMoE, dense: FeedForward, inputs_TD: Tensor) -> None:
    """The merge layer of least squared distance to the dense FFN's outputs, drawn a little to the one that is there."""
    last = _linear(ffn.merge)
    with_merge, ffn.merge = ffn.merge, nn.Identity()
    parts_TD = ffn(inputs_TD)[0].double()
    ffn.merge = with_merge
    wanted_TD = dense(inputs_TD).double()
    mean_D, wanted_mean_D = parts_TD.mean(dim=0), wanted_TD.mean(dim=0)
    centred_TD = parts_TD - mean_D
    missing_TD = wanted_TD - wanted_mean_D - centred_TD @ last.weight.double().t()
    gram_DD = centred_TD.t() @ centred_TD
    gram_DD += _RIDGE * gram_DD.diagonal().mean() * torch.eye(len(gram_DD), dtype=gram_DD.dtype)
    weight_DD = last.weight.double() + torch.linalg.solve(gram_DD, centred_TD.t() @ missing_TD).t()
    last.weight.copy_(weight_DD)
    last.bias.copy_(wanted_mean_D - weight_DD @ mean_D)


def _linear(module: nn.Module) -> nn.Linear:
    assert isinstance(module, nn.Linear)
    return module
