"""MH-MoE in place of the MLP in every second block of a timm ViT, trained for a few steps on random pictures.

python docs/examples/timm_vit.py
"""

from __future__ import annotations

import timm
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mm_mhmoe.nn import Experts, MoE, MultiHeadMoE, Routing, TopKRouter, load_balance_loss


class SparseMLP(nn.Module):
    """What a timm block calls: (B, N, D) -> (B, N, D). The routings of a step go to a list of the caller's."""

    def __init__(self, dim: int, routings: list[Routing], *, heads: int = 4, num_experts: int = 8) -> None:
        super().__init__()
        width = dim // heads
        experts = Experts(num_experts, width, hidden_dim=3 * dim // 2)  # top-2: the FLOPs of the MLP it replaces
        self.layer = MultiHeadMoE(dim, heads, MoE(TopKRouter(width, num_experts, top_k=2), experts))
        self.routings = routings

    def forward(self, x_BND: Tensor) -> Tensor:
        y_TD, routing = self.layer(x_BND.flatten(0, 1))
        self.routings.append(routing)
        return y_TD.unflatten(0, x_BND.shape[:2])


def main(steps: int = 5) -> list[float]:
    torch.manual_seed(0)
    routings: list[Routing] = []
    model = timm.create_model("vit_tiny_patch16_224", img_size=64, num_classes=10)
    for block in model.blocks[1::2]:
        block.mlp = SparseMLP(model.embed_dim, routings)
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-4)
    pictures, labels = torch.randn(16, 3, 64, 64), torch.arange(16) % 10
    losses = []
    for step in range(steps):
        routings.clear()
        classified = F.cross_entropy(model(pictures), labels)
        balance = torch.stack([load_balance_loss(routing) for routing in routings]).mean()
        (classified + 0.01 * balance).backward()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(classified.item())
        print(f"step {step}  loss {losses[-1]:.3f}  balance {balance.item():.3f}")
    return losses


if __name__ == "__main__":
    main()
