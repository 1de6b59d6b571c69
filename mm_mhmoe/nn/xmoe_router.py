"""X-MoE's router (arXiv 2204.09179): cosine scores in a low dimension.

Legend: S (sub-)tokens, d their width, R routing dim, E experts, K top-k.
"""

from __future__ import annotations

import math
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mm_mhmoe.nn.router import check_top_k
from mm_mhmoe.nn.routing import Routing, full_precision, gate_logits, mixing_weights, softmax_rows

GateFunction = Literal["softmax", "sigmoid"]

# The fixed temperature of the balance loss (arXiv 2204.09179).
BALANCE_TEMPERATURE: dict[GateFunction, float] = {"softmax": 0.3, "sigmoid": 0.07}


class XMoERouter(nn.Module):
    """Scores are cosines between a projected (sub-)token and the experts' embeddings, in fp32.

    The gate divides them by a learned temperature; the balance loss sees them under a fixed one (`prob_SE`).

    With `released`, as the published code (torchscale, and the MH-MoE fork): only the experts' embeddings are
    normalised, not the projected (sub-)token; there is no temperature, and the balance loss sees the gate's own
    probabilities.

    Args:
        dim: width of a (sub-)token.
        num_experts: E.
        top_k: K (1 in the paper).
        routing_dim: R; about E / 2 in the paper, 16 in the published code.
        gate: softmax over experts, or a sigmoid of each score.
        normalize: whether the weights of k > 1 experts sum to one; False leaves their scores as they are, as MH-MoE's
            published decoder does.
        released: the published code's variant; it has a softmax gate only.
    """

    def __init__(
        self,
        dim: int,
        num_experts: int,
        top_k: int = 1,
        *,
        routing_dim: int = 16,
        gate: GateFunction = "softmax",
        normalize: bool = True,
        released: bool = False,
    ) -> None:
        super().__init__()
        check_top_k(top_k, num_experts)
        if released and gate != "softmax":
            raise ValueError(f"gate={gate} with released=True: the published code has a softmax gate only")
        self.num_experts = num_experts
        self.top_k = top_k
        self.gate = gate
        self.normalize = normalize
        self.reduce = nn.Linear(dim, routing_dim, bias=False)
        self.embeddings_ER = nn.Parameter(torch.empty(num_experts, routing_dim))
        nn.init.orthogonal_(self.embeddings_ER, gain=0.32)  # as the published code
        self.log_temperature = None if released else nn.Parameter(torch.tensor(math.log(BALANCE_TEMPERATURE[gate])))

    def forward(self, x_Sd: Tensor, valid_S: Tensor | None = None) -> Routing:
        low_SR = gate_logits(full_precision(x_Sd, valid_S), self.reduce.weight)
        embeddings_ER = F.normalize(self.embeddings_ER.to(low_SR.dtype), dim=1)
        if self.log_temperature is None:
            logits_SE = gate_logits(low_SR, embeddings_ER)
            prob_SE = scores_SE = softmax_rows(logits_SE)
        else:
            cosine_SE = gate_logits(F.normalize(low_SR, dim=1), embeddings_ER)
            logits_SE = cosine_SE / self.log_temperature.exp()
            scores_SE = self._activate(logits_SE)
            prob_SE = self._activate(cosine_SE / BALANCE_TEMPERATURE[self.gate])
        chosen_SK, experts_SK = scores_SE.topk(self.top_k, dim=1)
        weights_SK = mixing_weights(chosen_SK, normalize=self.normalize)
        return Routing(logits_SE, prob_SE, experts_SK, weights_SK, valid_S)

    def _activate(self, logits_SE: Tensor) -> Tensor:
        return softmax_rows(logits_SE) if self.gate == "softmax" else logits_SE.sigmoid()
