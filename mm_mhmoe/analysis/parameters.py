"""Parameters of an encoder from its configuration alone, by part; no module is built."""

from __future__ import annotations

from dataclasses import dataclass, fields

from mm_mhmoe.analysis.cost import active_share
from mm_mhmoe.config import EncoderConfig


@dataclass(frozen=True, kw_only=True)
class Parameters:
    """Numbers of parameters, biases included.

    Args:
        embeddings: patches, words, positions, [CLS] and mask token.
        attention: its four matrices, and tables of relative positions.
        dense_ffn: the dense FFNs.
        router: all routers.
        head_and_merge: multi-head and merge layers of MH-MoE.
        experts: the experts that are chosen, with the LayerNorms inside them.
        shared_experts: the experts that every (sub-)token goes through, with theirs.
        norms: all other LayerNorms, and LayerScale's factors.
        task_heads: the heads of pretraining.
        unused_experts: parameters of `experts` that one token cannot use.
    """

    embeddings: int
    attention: int
    dense_ffn: int
    router: int
    head_and_merge: int
    experts: int
    shared_experts: int
    norms: int
    task_heads: int
    unused_experts: int

    def by_part(self) -> dict[str, int]:
        return {part.name: getattr(self, part.name) for part in fields(self) if part.name != "unused_experts"}

    @property
    def total(self) -> int:
        return sum(self.by_part().values())

    @property
    def active(self) -> int:
        """What one token can use at most, as in records of scores: everything but the experts it cannot reach.

        Of a multiway encoder, both modalities' weights count, as a pair uses them.
        """
        return self.total - self.unused_experts


def count_parameters(
    config: EncoderConfig, image_outputs: int | None = None, *, embed_dim: int | None = None
) -> Parameters:
    """Counts an encoder, and with the width of its image head a PretrainModel of `embed_dim`."""
    dim, moe, text, ways = config.dim, config.moe, config.text, config.ways
    sparse, dense = config.sparse_ffns, config.dense_ffns
    norm = dim if config.norm == "rms" else 2 * dim
    scales = 2 * ways * config.depth * dim if config.layer_scale is not None else 0
    inner_norms = ways * config.depth * norm + dense * 2 * config.ffn_dim if config.sub_ln else 0
    experts = sparse * _experts(config) if sparse else 0
    return Parameters(
        embeddings=_picture_embedding(config)
        + dim * (text.vocab_size + (text.num_positions if config.text_positions == "learned" else 0)),
        attention=ways * config.depth * 4 * linear(dim, dim, config.bias) + _relative_positions(config),
        dense_ffn=dense
        * (
            linear(dim, (config.dense_size.matrices - 1) * config.ffn_dim, config.bias)
            + linear(config.ffn_dim, dim, config.bias)
        ),
        router=sparse * router_parameters(config) if sparse else 0,
        head_and_merge=sparse * 2 * moe.projection_layers * linear(dim, dim) if config.ffn == "mh_moe" else 0,
        experts=experts,
        shared_experts=sparse * _shared_expert(config) if sparse else 0,
        norms=ways * (2 * config.depth + config.final_norm) * norm + inner_norms + scales,
        task_heads=0 if image_outputs is None else _pretraining_heads(dim, image_outputs, text.vocab_size, embed_dim),
        unused_experts=round((1 - active_share(config)) * experts),
    )


def _picture_embedding(config: EncoderConfig) -> int:
    """Patches, [CLS], mask token and positions; nothing in a language model."""
    if not config.pictures:
        return 0
    vision, dim = config.vision, config.dim
    positions = 1 + vision.num_patches if config.image_positions else 0
    return linear(3 * vision.patch_size**2, dim) + dim * (2 + positions)


def _relative_positions(config: EncoderConfig) -> int:
    tables = {"none": 0, "shared": 1, "layer": config.depth}[config.relative_positions]
    return tables * ((2 * config.vision.grid - 1) ** 2 + 3) * config.num_heads


def linear(inputs: int, outputs: int, bias: bool = True) -> int:
    """Parameters of a Linear."""
    return inputs * outputs + (outputs if bias else 0)


def router_parameters(config: EncoderConfig) -> int:
    """Parameters of one layer's router."""
    moe, width = config.moe, config.sparse_size.width
    if moe.router in ("xmoe", "xmoe_released"):
        temperature = 1 if moe.router == "xmoe" else 0
        return (width + moe.num_experts) * moe.router_dim + temperature
    return width * moe.num_experts


def _ffn(config: EncoderConfig, hidden: int) -> int:
    """One expert of that hidden size, with the LayerNorm inside."""
    width, bias = config.sparse_size.width, config.moe.expert_bias
    first = linear(width, (config.sparse_size.matrices - 1) * hidden, bias)
    return first + linear(hidden, width, bias) + (2 * hidden if config.sub_ln else 0)


def _experts(config: EncoderConfig) -> int:
    return config.moe.num_experts * _ffn(config, config.expert_hidden_dim)


def _shared_expert(config: EncoderConfig) -> int:
    shared = config.moe.shared_experts
    return _ffn(config, shared * config.expert_hidden_dim) if shared else 0


def _pretraining_heads(dim: int, image_outputs: int, vocab_size: int, embed_dim: int | None) -> int:
    from_cls = linear(dim, 2 * dim) + linear(2 * dim, dim) + 2 * dim
    # Two projections, a temperature, and the head of matching.
    of_pairs = 0 if embed_dim is None else 2 * linear(dim, embed_dim, bias=False) + 1 + linear(dim, 2)
    return linear(dim, image_outputs) + linear(dim, vocab_size) + from_cls + of_pairs
