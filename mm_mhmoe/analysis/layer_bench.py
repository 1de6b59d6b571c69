"""What is timed against MH-MoE: the products alone, a dense FFN, and other ways to compute a sparse mixture.

All have the same FLOPs up to the router.

Legend: T tokens, D model dim, S sub-tokens, d their width, E experts, K top-k, G groups, C capacity, F hidden dim.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, get_args

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mm_mhmoe.nn import Experts, FeedForward, MoE, MultiHeadMoE, Routing, TopKRouter, expert_counts
from mm_mhmoe.nn.expert_pass import Keep

GROUP = 1024


@dataclass(frozen=True, kw_only=True)
class LayerSize:
    """A size of the layer. `hidden` is that of one expert of MH-MoE."""

    tokens: int
    dim: int
    heads: int
    experts: int
    top_k: int
    hidden: int

    @property
    def ffn_dim(self) -> int:
        """Hidden size of the dense FFN of the same FLOPs: head, merge and K experts cost 2 D^2 + 2 K D h MACs."""
        return self.dim + self.top_k * self.hidden


SIZES = {
    "A": LayerSize(tokens=4096, dim=768, heads=4, experts=8, top_k=2, hidden=1536),
    "S": LayerSize(tokens=8192, dim=192, heads=4, experts=8, top_k=2, hidden=384),
    "A32": LayerSize(tokens=4096, dim=768, heads=4, experts=32, top_k=2, hidden=1536),
    "S32": LayerSize(tokens=8192, dim=192, heads=4, experts=32, top_k=2, hidden=384),
}

# What autograd keeps of the authors' own layer with Tutel's dispatcher, in training on a CPU: its C++ is not run here,
# but tests/golden/measure_released_memory.py tells how it was.
RELEASED_MB = {
    ("A", "fp32"): 495,
    ("A", "bf16"): 375,
    ("S", "fp32"): 254,
    ("S", "bf16"): 194,
    ("A32", "fp32"): 506,
    ("A32", "bf16"): 386,
    ("S32", "fp32"): 276,
    ("S32", "bf16"): 216,
}


class EinsumMoE(nn.Module):
    """The mixture as GShard and Switch write it: dispatch and combine are products with one-hot tensors.

    Works in groups of `GROUP` sub-tokens; each expert has room for ceil(K GROUP / E) of a group, more are dropped.
    Only for comparison.
    """

    def __init__(self, router: TopKRouter, experts: Experts) -> None:
        super().__init__()
        self.router = router
        self.experts = experts

    def forward(self, x_Sd: Tensor, valid_S: Tensor | None = None) -> tuple[Tensor, Routing]:
        routing = self.router(x_Sd, valid_S)
        parts, num_experts = self.experts, routing.num_experts
        size = min(GROUP, len(x_Sd))
        room = -(-self.router.top_k * size // num_experts)
        chosen_GNE = F.one_hot(routing.experts_SK, num_experts).unflatten(0, (-1, size)).transpose(1, 2).flatten(1, 2)
        place_GN = ((chosen_GNE.cumsum(1) - 1) * chosen_GNE).sum(2)
        place_GNC = F.one_hot(place_GN.clamp(max=room), room + 1)[..., :room]
        weight_GN = routing.weights_SK.unflatten(0, (-1, size)).transpose(1, 2).flatten(1, 2)
        slot_GNEC = (chosen_GNE.unsqueeze(3) * place_GNC.unsqueeze(2)).to(x_Sd.dtype)
        combine_GsEC = (weight_GN[..., None, None] * slot_GNEC).unflatten(1, (self.router.top_k, size)).sum(1)
        x_EGCd = torch.einsum("gsec,gsd->egcd", (combine_GsEC != 0).to(x_Sd.dtype), x_Sd.unflatten(0, (-1, size)))
        assert parts.b1_EF is not None and parts.b2_Ed is not None
        h_EMF = F.gelu(torch.bmm(x_EGCd.flatten(1, 2), parts.w1_EdF) + parts.b1_EF.unsqueeze(1))
        y_EMd = torch.bmm(h_EMF, parts.w2_EFd) + parts.b2_Ed.unsqueeze(1)
        y_EGCd = y_EMd.unflatten(1, (-1, room))
        return torch.einsum("gsec,egcd->gsd", combine_GsEC.to(y_EGCd.dtype), y_EGCd).flatten(0, 1), routing


class MixtralMoE(nn.Module):
    """Hugging Face's Mixtral block (SwiGLU experts of 2/3 of the hidden size: the same FLOPs)."""

    def __init__(self, size: LayerSize, implementation: str) -> None:
        super().__init__()
        from transformers import MixtralConfig
        from transformers.models.mixtral.modeling_mixtral import MixtralSparseMoeBlock

        config = MixtralConfig(
            hidden_size=size.dim // size.heads,
            intermediate_size=2 * size.hidden // 3,
            num_local_experts=size.experts,
            num_experts_per_tok=size.top_k,
            experts_implementation=implementation,
        )
        self.block = MixtralSparseMoeBlock(config)
        for parameter in self.parameters():
            nn.init.normal_(parameter, std=0.02)

    def forward(self, x_Sd: Tensor, valid_S: Tensor | None = None) -> tuple[Tensor, None]:
        out = self.block(x_Sd.unsqueeze(0))
        return (out[0] if isinstance(out, tuple) else out).squeeze(0), None


def has_transformers() -> bool:
    """Whether Hugging Face's transformers can be imported."""
    try:
        import transformers  # noqa: F401
    except ImportError:
        return False
    return True


def build_layers(size: LayerSize, *, einsum: bool = True) -> dict[str, nn.Module]:
    """The layers by name. Those that hold our experts under the same heads have the same weights."""
    width = size.dim // size.heads

    def multi_head(moe: nn.Module) -> MultiHeadMoE:
        return MultiHeadMoE(size.dim, size.heads, moe)

    def router(dim: int) -> TopKRouter:
        return TopKRouter(dim, size.experts, size.top_k)

    ours = {
        f"MH-MoE, keep {keep}": multi_head(MoE(router(width), Experts(size.experts, width, size.hidden, keep=keep)))
        for keep in get_args(Keep)
    }
    same = next(iter(ours.values())).state_dict()
    for layer in ours.values():
        layer.load_state_dict(same)
    layers: dict[str, nn.Module] = {
        "dense FFN": FeedForward(size.dim, size.ffn_dim, sub_ln=False),
        "MoE": MoE(router(size.dim), Experts(size.experts, size.dim, size.ffn_dim // size.top_k)),
        **ours,
    }
    if einsum:
        layers["MH-MoE, einsum dispatch"] = multi_head(
            EinsumMoE(router(width), Experts(size.experts, width, size.hidden))
        )
        layers["MH-MoE, einsum dispatch"].load_state_dict(same)
    if has_transformers():
        for implementation in ("eager", "grouped_mm"):
            layers[f"MH-MoE, Mixtral block ({implementation})"] = multi_head(MixtralMoE(size, implementation))
    return layers


def layer_inputs(size: LayerSize, layer: nn.Module, dtype: torch.dtype) -> tuple[Tensor, Tensor, list[int]]:
    """Tokens (T, D), a gradient for the output (T, D), and how many rows the layer sends to each expert."""
    x_TD = torch.randn(size.tokens, size.dim, dtype=dtype, requires_grad=True)
    with torch.no_grad():
        routing = layer(x_TD)[1]
    return x_TD, torch.randn(size.tokens, size.dim, dtype=dtype), [int(count) for count in expert_counts(routing)]


def products(size: LayerSize, dtype: torch.dtype, counts: list[int]) -> Mapping[str, Callable[[], None]]:
    """The matrix products of MH-MoE and nothing else: what no layer can be faster than. By name: forward, training.

    Args:
        counts: rows of each expert, as the layer's router made them.
    """
    width = size.dim // size.heads
    shapes = [(size.tokens, size.dim, size.dim)] * 2
    for count in counts:
        shapes += [(count, width, size.hidden), (count, size.hidden, width)]
    tensors = [
        (torch.randn(m, k, dtype=dtype), torch.randn(k, n, dtype=dtype), torch.randn(m, n, dtype=dtype))
        for m, k, n in shapes
    ]

    def forward() -> None:
        for x, w, _ in tensors:
            torch.mm(x, w)

    def training() -> None:
        forward()
        for x, w, g in tensors:
            torch.mm(g, w.t())
            torch.mm(x.t(), g)

    return {"forward": forward, "training": training}


def run(layer: nn.Module, x_TD: Tensor, grad_TD: Tensor | None, *, training: bool) -> Callable[[], Any]:
    """A call of the layer; with a gradient, its backward pass too."""
    inputs = [x_TD, *layer.parameters()]

    def call() -> Tensor:
        with torch.set_grad_enabled(training):
            out = layer(x_TD)
        return out[0] if isinstance(out, tuple) else out

    def call_back() -> None:
        call().backward(grad_TD)
        for tensor in inputs:
            tensor.grad = None

    return call_back if training and grad_TD is not None else call
