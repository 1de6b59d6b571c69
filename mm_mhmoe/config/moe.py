"""The sparse FFN."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, get_args

from mm_mhmoe.config.checks import require
from mm_mhmoe.sizing import Parity

RouterKind = Literal["top_k", "xmoe", "xmoe_released", "sigmoid_bias", "expert_choice"]
DropPolicy = Literal["position", "priority"]
SecondPolicy = Literal["all", "random"]
Activation = Literal["gelu", "swiglu"]
XMoEGate = Literal["softmax", "sigmoid"]
BalanceScope = Literal["local", "global"]
BalanceChoices = Literal["all", "first"]
Pools = Literal["modality", "shared"]
Keep = Literal["all", "hidden", "tokens"]


@dataclass(frozen=True, kw_only=True)
class MoEConfig:
    """The sparse FFN.

    Args:
        num_experts: experts of one layer.
        top_k: experts that each (sub-)token is sent to.
        heads: sub-tokens that MH-MoE splits every token into (arXiv 2404.15045 uses 4); a plain MoE has no heads.
        projection_layers: linear maps in MH-MoE's multi-head layer and in its merge layer each; the paper uses 1.
        inner_residual: adds each sub-token of MH-MoE to its output (equation 6 of the paper; not in its code).
        parity: how hidden_dim is found. flops: the layer costs per token what the dense FFN of ffn_dim costs, at most
            (arXiv 2411.16205, head and merge layers counted, router not). params: the layer has the parameters of a
            plain MoE of num_experts experts as large as the dense FFN (arXiv 2404.15045; an expert of MH-MoE then does
            about as much work for a sub-token as the dense FFN for a token). none: hidden_dim is taken as given.
        hidden_dim: hidden size of one expert, for parity=none.
        router: top_k: softmax (Switch, GShard). xmoe: cosine in a low dimension with a learned temperature (X-MoE,
            arXiv 2204.09179). xmoe_released: as the published code, with neither. sigmoid_bias: sigmoid scores balanced
            by a bias (DeepSeek-V3); set balance_loss_weight to 0 with it. expert_choice: experts choose (sub-)tokens,
            top_k of them on average.
        router_dim: low dimension of the two xmoe routers.
        xmoe_gate: what makes scores of xmoe's cosines: softmax over experts (temperature 0.3 in the balance loss); or
            sigmoid of each (0.07), whose balance loss is not 1 at perfect balance. xmoe_released has softmax only.
        normalize_weights: whether the weights of an input's top_k > 1 experts sum to one (GShard, Mixtral). false: they
            stay probabilities, as in MH-MoE's published decoder. For top_k and the two xmoe routers.
        second_policy: random computes the second choice of top_k only sometimes, in training (GShard).
        router_jitter: multiplicative noise on the input of top_k, in training (Switch: 1e-2).
        router_noise: additive noise on the logits of top_k, in training.
        capacity_factor: an expert computes at most this times its even share; null: nothing is dropped.
        drop_policy: who is dropped from a full expert: position: who comes last; priority: who weighs least.
        shared_experts: experts that every (sub-)token goes through besides those it is sent to.
        activation: of the experts: gelu; or swiglu, with three matrices instead of two (Mixtral, DeepSeekMoE).
        expert_bias: whether the experts' matrices have biases.
        keep: what the experts keep for the backward pass, which computes the rest again. tokens: the (sub-)tokens
            alone. hidden: also their first product. all: also what activation and sub-LN make of it, the fastest.
        every: a sparse FFN in every n-th layer, counted from the n-th (2: layers 2, 4, ...); the others are dense.
        pools: under encoder.multiway: modality: pictures and texts have num_experts experts each, with routers (and
            multi-head and merge layers) of their own; shared: one router and num_experts experts serve both.
        balance_loss_weight: weight of the load-balance loss (1e-2 in arXiv 2404.15045).
        balance_scope: whose loads the load-balance loss evens out: local: those of each process's batch; global: those
            of all processes together (arXiv 2501.11873). One process has one batch, which is both.
        balance_choices: which choices count as load there: all top_k; or the first only (GShard, MH-MoE's code).
        z_loss_weight: weight of the router z-loss (ST-MoE, arXiv 2202.08906, uses 1e-3).
    """

    num_experts: int = 8
    top_k: int = 2
    heads: int = 4
    projection_layers: int = 1
    inner_residual: bool = False
    parity: Parity = "flops"
    hidden_dim: int | None = None
    router: RouterKind = "top_k"
    router_dim: int = 16
    xmoe_gate: XMoEGate = "softmax"
    normalize_weights: bool = True
    second_policy: SecondPolicy = "all"
    router_jitter: float = 0.0
    router_noise: float = 0.0
    capacity_factor: float | None = None
    drop_policy: DropPolicy = "position"
    shared_experts: int = 0
    activation: Activation = "gelu"
    expert_bias: bool = True
    keep: Keep = "hidden"
    every: int = 2
    pools: Pools = "modality"
    balance_loss_weight: float = 1e-2
    balance_scope: BalanceScope = "local"
    balance_choices: BalanceChoices = "all"
    z_loss_weight: float = 1e-3

    def __post_init__(self) -> None:
        require(
            1 <= self.top_k <= self.num_experts,
            f"moe.top_k={self.top_k} must lie between 1 and moe.num_experts={self.num_experts}",
        )
        require(self.heads >= 1, f"moe.heads={self.heads} must be 1 or more")
        require(self.projection_layers >= 0, f"moe.projection_layers={self.projection_layers} must not be negative")
        require(self.every >= 1, f"moe.every={self.every} must be 1 or more")
        require(self.shared_experts >= 0, f"moe.shared_experts={self.shared_experts} must not be negative")
        require(self.router_dim >= 1, f"moe.router_dim={self.router_dim} must be 1 or more")
        for name, choices in (
            ("router", RouterKind),
            ("drop_policy", DropPolicy),
            ("second_policy", SecondPolicy),
            ("activation", Activation),
            ("xmoe_gate", XMoEGate),
            ("balance_scope", BalanceScope),
            ("balance_choices", BalanceChoices),
            ("parity", Parity),
            ("pools", Pools),
            ("keep", Keep),
        ):
            value = getattr(self, name)
            require(value in get_args(choices), f"moe.{name}={value!r} is not one of {', '.join(get_args(choices))}")
        require(
            self.capacity_factor is None or self.capacity_factor > 0,
            f"moe.capacity_factor={self.capacity_factor} must be positive; leave it out to drop nothing",
        )
        softmax_only = (self.second_policy != "all", self.router_jitter > 0, self.router_noise > 0)
        require(
            self.router == "top_k" or not any(softmax_only),
            f"moe.second_policy, moe.router_jitter and moe.router_noise belong to moe.router=top_k, not {self.router}",
        )
        require(
            self.xmoe_gate == "softmax" or self.router == "xmoe",
            f"moe.xmoe_gate={self.xmoe_gate} is for moe.router=xmoe, not {self.router}; change one of them",
        )
        require(
            self.normalize_weights or self.router in ("top_k", "xmoe", "xmoe_released"),
            f"moe.normalize_weights=false is not for moe.router={self.router}; leave it out, or use router=top_k",
        )
        require(
            self.router != "expert_choice" or self.capacity_factor is None,
            f"moe.capacity_factor={self.capacity_factor}: experts that choose have a capacity already; leave it out",
        )
        require(
            self.router != "expert_choice" or self.balance_choices == "all",
            f"moe.balance_choices={self.balance_choices}: under moe.router=expert_choice nobody chooses first; use all",
        )
        if self.parity == "none":
            require(
                self.hidden_dim is not None and self.hidden_dim > 0,
                f"moe.parity=none needs moe.hidden_dim (got {self.hidden_dim}); give it, or use parity=flops",
            )
        else:
            require(
                self.hidden_dim is None,
                f"moe.hidden_dim={self.hidden_dim} is given but moe.parity={self.parity} solves it; "
                "leave it out, or use parity=none",
            )

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> MoEConfig:
        """From its fields by name, also as earlier versions wrote them, with `recompute` instead of `keep`."""
        if "recompute" in values:
            values = {**values, "keep": "tokens" if values["recompute"] else "hidden"}
            del values["recompute"]
        return cls(**values)
