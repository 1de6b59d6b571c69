"""Sigmoid scores, balanced by a bias instead of a loss (DeepSeek-V3, arXiv 2412.19437, section 2.1.2).

Legend: S (sub-)tokens, d their width, E experts, K top-k.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from mm_mhmoe.nn.balance import expert_counts
from mm_mhmoe.nn.router import check_top_k
from mm_mhmoe.nn.routing import Routing, full_precision, gate_logits, mixing_weights


class SigmoidRouter(nn.Module):
    """The k experts of the largest sigmoid score plus bias; the weights are the scores alone, normalised to sum to one.

    The bias has no gradient. The training loop calls `update_bias` once a batch: an expert with less than the mean load
    becomes a little more attractive, one with more a little less. The bias is saved with the weights.

    Args:
        dim: width of a (sub-)token.
        num_experts: E.
        top_k: K.
        bias_step: what an update adds or takes away (1e-3 in the paper).
    """

    bias_E: Tensor

    def __init__(self, dim: int, num_experts: int, top_k: int, *, bias_step: float = 1e-3) -> None:
        super().__init__()
        check_top_k(top_k, num_experts)
        self.num_experts = num_experts
        self.top_k = top_k
        self.bias_step = bias_step
        self.gate = nn.Linear(dim, num_experts, bias=False)
        self.register_buffer("bias_E", torch.zeros(num_experts))

    def forward(self, x_Sd: Tensor, valid_S: Tensor | None = None) -> Routing:
        logits_SE = gate_logits(full_precision(x_Sd, valid_S), self.gate.weight)
        score_SE = logits_SE.sigmoid()
        experts_SK = (score_SE.detach() + self.bias_E).topk(self.top_k, dim=1).indices
        weights_SK = mixing_weights(score_SE.gather(1, experts_SK))
        prob_SE = score_SE / score_SE.sum(dim=1, keepdim=True)
        return Routing(logits_SE, prob_SE, experts_SK, weights_SK, valid_S)

    @torch.no_grad()
    def update_bias(self, routing: Routing, all_reduce: Callable[[Tensor], Tensor] = lambda x: x) -> None:
        """One step towards even loads.

        Args:
            routing: what this router decided on a batch.
            all_reduce: sums a tensor over ranks, so that every rank keeps the same bias.
        """
        counts_E = all_reduce(expert_counts(routing))
        self.bias_E += self.bias_step * torch.sign(counts_E.mean() - counts_E)
