"""What a router decided. Legend: S (sub-)tokens, d their width, E experts, K choices of a (sub-)token."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor


@dataclass(frozen=True)
class Routing:
    """What a router decided, returned by every sparse layer beside its output.

    logits_SE:  fp32 scores.
    prob_SE:    fp32 scores between 0 and 1 that the balance loss works on: their softmax over experts, most often.
    experts_SK: int64 experts of each (sub-)token, best first.
    weights_SK: fp32 weights of those experts' outputs.
    valid_S:    False at padding, which no expert sees and no statistic counts; None: all are valid.
    sent_SK:    False where an expert is not computed (it is full, or was not taken after all); None: all are computed.
    pools:      where two pools of experts share the (sub-)tokens (`MultiwayMoE`), the routing of each that has any: a
                balance loss is a matter of one pool.
    """

    logits_SE: Tensor
    prob_SE: Tensor
    experts_SK: Tensor
    weights_SK: Tensor
    valid_S: Tensor | None = None
    sent_SK: Tensor | None = None
    pools: tuple[Routing, ...] = ()

    @property
    def each_pool(self) -> tuple[Routing, ...]:
        """The routing of every pool; most often there is one."""
        return self.pools or (self,)

    @property
    def num_experts(self) -> int:
        return self.prob_SE.shape[1]

    def detach(self) -> Routing:
        """The same numbers, out of the graph."""
        return replace(
            self,
            logits_SE=self.logits_SE.detach(),
            prob_SE=self.prob_SE.detach(),
            weights_SK=self.weights_SK.detach(),
            pools=tuple(pool.detach() for pool in self.pools),
        )

    def kept(self, values_S: Tensor) -> Tensor:
        """The rows of a per-(sub-)token tensor that are not padding."""
        return values_S if self.valid_S is None else values_S[self.valid_S]

    @property
    def target_SK(self) -> Tensor:
        """experts_SK, with the number of experts where nothing is computed: at padding and where sent_SK is False."""
        target_SK = self.experts_SK
        if self.sent_SK is not None:
            target_SK = target_SK.masked_fill(~self.sent_SK, self.num_experts)
        if self.valid_S is not None:
            target_SK = target_SK.masked_fill(~self.valid_S.unsqueeze(1), self.num_experts)
        return target_SK


def choice_counts(target_SK: Tensor, num_experts: int) -> Tensor:
    """How often each expert is the target: (E,), int64. A target of E is nobody (see `Routing.target_SK`)."""
    return target_SK.flatten().bincount(minlength=num_experts + 1)[:num_experts]


def mixing_weights(chosen_SK: Tensor, *, normalize: bool = True) -> Tensor:
    """The chosen experts' scores, by default normalised to sum to one.

    A single one stays as it is: normalised it would be one, and the router would have no gradient.
    """
    if chosen_SK.shape[1] == 1 or not normalize:
        return chosen_SK
    return chosen_SK / chosen_SK.sum(dim=1, keepdim=True).clamp(min=torch.finfo(chosen_SK.dtype).tiny)


def full_precision(x_Sd: Tensor, valid_S: Tensor | None) -> Tensor:
    """A router's input in fp32 (float64 stays), with zeros at padding.

    Whatever stands in padding would meet the gate's gradient as 0 * NaN.
    """
    if valid_S is not None:
        x_Sd = x_Sd.masked_fill(~valid_S.unsqueeze(1), 0.0)
    return x_Sd.to(torch.promote_types(x_Sd.dtype, torch.float32))


def gate_logits(x_Sd: Tensor, weight_Ed: Tensor) -> Tensor:
    """x W^T in the precision of x, whatever the autocast: bf16 changes choices."""
    with torch.autocast(x_Sd.device.type, enabled=False):
        return F.linear(x_Sd, weight_Ed.to(x_Sd.dtype))


def softmax_rows(logits_SE: Tensor) -> Tensor:
    """Softmax of each row.

    Over less than a vector register of columns, torch's CPU kernel takes ten times as long as over as many rows.
    """
    if logits_SE.device.type == "cpu" and logits_SE.shape[1] < 16:
        return logits_SE.t().contiguous().softmax(dim=0).t()
    return logits_SE.softmax(dim=1)
