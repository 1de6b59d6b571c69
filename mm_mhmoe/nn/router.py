"""Which experts a (sub-)token is sent to.

Legend: S (sub-)tokens, d their width, E experts, K top-k.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn


@dataclass(frozen=True)
class Routing:
    """What a router decided, returned by every sparse layer beside its output.

    logits_SE:  fp32 scores.
    prob_SE:    fp32 softmax of them over experts.
    experts_SK: int64 chosen experts, best first.
    weights_SK: fp32 weights of the chosen experts' outputs.
    valid_S:    False at padding, which no expert sees and no statistic counts; None: all are valid.
    """

    logits_SE: Tensor
    prob_SE: Tensor
    experts_SK: Tensor
    weights_SK: Tensor
    valid_S: Tensor | None = None

    @property
    def num_experts(self) -> int:
        return self.prob_SE.shape[1]

    def kept(self, values_S: Tensor) -> Tensor:
        """The rows of a per-(sub-)token tensor that are not padding."""
        return values_S if self.valid_S is None else values_S[self.valid_S]


class TopKRouter(nn.Module):
    """Softmax router: the k best of E experts, in fp32 whatever the autocast (bf16 changes choices).

    For k > 1 the weights are the chosen experts' probabilities, normalised to sum to one (GShard, arXiv 2006.16668);
    for k = 1 the probability itself, without which the router would have no gradient (Switch, arXiv 2101.03961).

    Args:
        dim: width of a (sub-)token.
        num_experts: E.
        top_k: K, at most E.
    """

    def __init__(self, dim: int, num_experts: int, top_k: int) -> None:
        super().__init__()
        if not 1 <= top_k <= num_experts:
            raise ValueError(f"top_k={top_k} must lie between 1 and num_experts={num_experts}")
        self.num_experts = num_experts
        self.top_k = top_k
        self.gate = nn.Linear(dim, num_experts, bias=False)

    def forward(self, x_Sd: Tensor, valid_S: Tensor | None = None) -> Routing:
        if valid_S is not None:
            # Whatever stands in padding would meet the gate's gradient as 0 * NaN.
            x_Sd = x_Sd.masked_fill(~valid_S.unsqueeze(1), 0.0)
        with torch.autocast(x_Sd.device.type, enabled=False):
            precision = torch.promote_types(x_Sd.dtype, torch.float32)
            logits_SE = F.linear(x_Sd.to(precision), self.gate.weight.to(precision))
            prob_SE = logits_SE.softmax(dim=1)
            best_SK, experts_SK = logits_SE.topk(self.top_k, dim=1)
            # For k > 1, the softmax over the k best logits is the normalised probability.
            weights_SK = prob_SE.gather(1, experts_SK) if self.top_k == 1 else best_SK.softmax(dim=1)
        return Routing(logits_SE, prob_SE, experts_SK, weights_SK, valid_S)
