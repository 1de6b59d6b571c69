"""Softmax routers: the k best experts of each (sub-)token.

Legend: S (sub-)tokens, d their width, E experts, K top-k.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

from mm_mhmoe.nn.routing import Routing, full_precision, gate_logits, softmax_rows

SecondPolicy = Literal["all", "random"]


class TopKRouter(nn.Module):
    """Softmax router: the k best of E experts, in fp32 whatever the autocast.

    For k > 1 the weights are the chosen experts' probabilities, normalised to sum to one (GShard, arXiv 2006.16668,
    algorithm 1) unless normalize is False; for k = 1 the probability itself, without which the router would have no
    gradient (Switch, arXiv 2101.03961).

    Args:
        dim: width of a (sub-)token.
        num_experts: E.
        top_k: K, at most E.
        second_policy: random computes the second choice with a probability of twice its weight, in training (GShard);
            all always computes it. random needs top_k=2.
        normalize: False leaves the probabilities of the k experts as they are, as MH-MoE's published decoder does.
        jitter: in training, inputs are multiplied by uniform numbers in [1 - jitter, 1 + jitter] (Switch).
        noise: in training, normal noise of this deviation is added to the logits (V-MoE, arXiv 2106.05974, uses 1/E).
    """

    def __init__(
        self,
        dim: int,
        num_experts: int,
        top_k: int,
        *,
        second_policy: SecondPolicy = "all",
        normalize: bool = True,
        jitter: float = 0.0,
        noise: float = 0.0,
    ) -> None:
        super().__init__()
        check_top_k(top_k, num_experts)
        if second_policy == "random" and top_k != 2:
            raise ValueError(f"second_policy=random needs top_k=2, not top_k={top_k}")
        if not 0 <= jitter < 1 or noise < 0:
            raise ValueError(f"jitter={jitter} must lie in [0, 1) and noise={noise} must not be negative")
        self.num_experts = num_experts
        self.top_k = top_k
        self.second_policy = second_policy
        self.normalize = normalize
        self.jitter = jitter
        self.noise = noise
        self.gate = nn.Linear(dim, num_experts, bias=False)

    def forward(self, x_Sd: Tensor, valid_S: Tensor | None = None) -> Routing:
        x_Sd = full_precision(x_Sd, valid_S)
        if self.jitter and self.training:
            x_Sd = x_Sd * torch.empty_like(x_Sd).uniform_(1 - self.jitter, 1 + self.jitter)
        logits_SE = gate_logits(x_Sd, self.gate.weight)
        if self.noise and self.training:
            logits_SE = logits_SE + self.noise * torch.randn_like(logits_SE)
        prob_SE = softmax_rows(logits_SE)
        best_SK, experts_SK = logits_SE.topk(self.top_k, dim=1)
        # For k > 1, the softmax over the k best logits is the normalised probability.
        normalized = self.normalize and self.top_k > 1
        weights_SK = softmax_rows(best_SK) if normalized else prob_SE.gather(1, experts_SK)
        sent_SK = None
        if self.second_policy == "random" and self.training:
            sent_SK = torch.ones_like(experts_SK, dtype=torch.bool)
            sent_SK[:, 1] = 2 * weights_SK[:, 1].detach() > torch.rand(len(x_Sd), device=x_Sd.device)
        return Routing(logits_SE, prob_SE, experts_SK, weights_SK, valid_S, sent_SK)


def check_top_k(top_k: int, num_experts: int) -> None:
    """Raises ValueError unless 1 <= top_k <= num_experts."""
    if not 1 <= top_k <= num_experts:
        raise ValueError(f"top_k={top_k} must lie between 1 and num_experts={num_experts}")
