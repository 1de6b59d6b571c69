"""Expert choice (arXiv 2202.09368): experts choose (sub-)tokens, so that every expert has the same load.

Legend: S (sub-)tokens, d their width, E experts, C (sub-)tokens of an expert.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from mm_mhmoe.nn.routing import Routing, full_precision, gate_logits, softmax_rows


class ExpertChoiceRouter(nn.Module):
    """Each expert takes the C (sub-)tokens that give it the largest softmax score; C = ceil(average_k S / E).

    A (sub-)token may be taken by any number of experts, also by none. It looks at the whole batch, so what one row gets
    depends on the others: use it in encoders, not where later tokens must stay unseen.

    Args:
        dim: width of a (sub-)token.
        num_experts: E.
        average_k: experts of a (sub-)token on average (the capacity factor of the paper: 1 or 2).
    """

    def __init__(self, dim: int, num_experts: int, average_k: float = 2.0) -> None:
        super().__init__()
        if not 0 < average_k <= num_experts:
            raise ValueError(f"average_k={average_k} must lie in (0, num_experts={num_experts}]")
        self.num_experts = num_experts
        self.average_k = average_k
        self.gate = nn.Linear(dim, num_experts, bias=False)

    def forward(self, x_Sd: Tensor, valid_S: Tensor | None = None) -> Routing:
        logits_SE = gate_logits(full_precision(x_Sd, valid_S), self.gate.weight)
        prob_SE = softmax_rows(logits_SE)
        real = len(x_Sd) if valid_S is None else int(valid_S.sum())
        taken = min(real, math.ceil(self.average_k * real / self.num_experts))
        wanted_SE = prob_SE.detach() if valid_S is None else prob_SE.detach().masked_fill(~valid_S.unsqueeze(1), -1.0)
        chosen_CE = wanted_SE.topk(taken, dim=0).indices
        sent_SE = torch.zeros_like(prob_SE, dtype=torch.bool).scatter_(0, chosen_CE, True)
        experts_SE = torch.arange(self.num_experts, device=x_Sd.device).expand(len(x_Sd), -1)
        return Routing(logits_SE, prob_SE, experts_SE, prob_SE, valid_S, sent_SE)
