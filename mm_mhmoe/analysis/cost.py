"""Parameters and FLOPs of an encoder. One multiply-accumulate is two FLOPs."""

from __future__ import annotations

from dataclasses import dataclass

from mm_mhmoe.config import EncoderConfig


@dataclass(frozen=True, kw_only=True)
class TokenFlops:
    """Forward FLOPs of one token in all blocks, by part (norms, biases and activations are not counted)."""

    attention: int
    dense_ffn: int
    router: int
    head_and_merge: int
    experts: int

    @property
    def total(self) -> int:
        return self.attention + self.dense_ffn + self.router + self.head_and_merge + self.experts


def token_flops(config: EncoderConfig, length: int) -> TokenFlops:
    """Matrix products of one token in a row of `length` tokens.

    Per block: 4 D^2 MACs for the projections and 2 length D for the scores and their product with the values; 2 D F for
    a dense FFN; for a sparse one E d for the router of each of H sub-tokens (through a low dimension R: R d + R E),
    2 D^2 for each layer of head and merge, and 2 k d h for each of H sub-tokens' experts (k counts shared
    ones too; 3 k d h for SwiGLU).
    """
    dim, moe = config.dim, config.moe
    sparse = sum(config.is_sparse(layer) for layer in range(config.depth))
    heads_layers = 2 * moe.projection_layers * dim**2 if config.ffn == "mh_moe" else 0
    matrices = 3 if moe.activation == "swiglu" else 2
    expert = matrices * (moe.top_k + moe.shared_experts) * dim * config.expert_hidden_dim if sparse else 0
    router = dim * moe.num_experts
    if moe.router in ("xmoe", "xmoe_released"):
        subtokens = moe.heads if config.ffn == "mh_moe" else 1
        router = moe.router_dim * (dim + subtokens * moe.num_experts)
    return TokenFlops(
        attention=2 * config.depth * (4 * dim**2 + 2 * length * dim),
        dense_ffn=2 * (config.depth - sparse) * 2 * dim * config.ffn_dim,
        router=2 * sparse * router,
        head_and_merge=2 * sparse * heads_layers,
        experts=2 * sparse * expert,
    )


def active_share(config: EncoderConfig) -> float:
    """Largest share of a sparse layer's experts that one token can use: k of E, or k for each of its H sub-tokens.

    Under expert choice all of them may take the same token.
    """
    if config.ffn == "dense" or config.moe.router == "expert_choice":
        return 1.0
    heads = config.moe.heads if config.ffn == "mh_moe" else 1
    return min(1.0, heads * config.moe.top_k / config.moe.num_experts)
