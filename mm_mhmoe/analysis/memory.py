"""Memory that a training step keeps for its backward pass, as a formula.

What is counted is what autograd saves, and the routing, which a step gives back. Not counted: buffers that live for a
moment (gradients of logits, communication), the optimiser's, and what an allocator wastes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass

from mm_mhmoe.analysis.arithmetic import FP32, INDEX, Arithmetic
from mm_mhmoe.analysis.block_memory import block_bytes, copied_weights, norm_bytes, routing_bytes
from mm_mhmoe.analysis.head_memory import copied_heads, head_bytes
from mm_mhmoe.analysis.workload import PatchTarget, Stream, Workload
from mm_mhmoe.config import EncoderConfig


@dataclass(frozen=True, kw_only=True)
class KeptBytes:
    """Bytes kept for the backward pass, by part.

    Args:
        embeddings: patches and word ids.
        norms: the residual stream, once for each LayerNorm that reads it, or once for each block that is computed
            again; and what LayerScale multiplies.
        attention: projections, and the attention itself.
        dense_ffn: hidden states of the dense FFNs.
        router: inputs and scores of the routers, and the routing.
        head_and_merge: inputs of multi-head and merge layers.
        experts: inputs, hidden states and outputs of the experts, shared ones too, and where rows came from.
        task_heads: states and log-probabilities, or gradients in place of many of them; what pairs are compared by.
        weight_copies: weights in half precision, which autocast makes once a step.
        one_block: where blocks are computed again, the largest of them with its weights in half precision: there is one
            at a time.
    """

    embeddings: int
    norms: int
    attention: int
    dense_ffn: int
    router: int
    head_and_merge: int
    experts: int
    task_heads: int
    weight_copies: int
    one_block: int

    @property
    def total(self) -> int:
        return sum(asdict(self).values())


def kept_bytes(
    config: EncoderConfig,
    workload: Workload,
    arithmetic: Arithmetic,
    target: PatchTarget | None = None,
    *,
    ep: int = 1,
    ranks: int = 1,
) -> KeptBytes:
    """One step of the encoder, and with a target of pretraining or the sequences of a language model also of its heads,
    where experts are divided over ep devices, and pairs are compared with those of `ranks` processes.

    Routing counts as balanced: a device's experts then get as many rows as its own tokens send.

    moe.capacity_factor, which drops rows, and stochastic depth are not looked at.
    """
    passes, layers, width = workload.passes(config), range(config.depth), arithmetic.copy_width
    padded, recomputed = workload.texts > 0, arithmetic.activation_checkpointing == "blocks"
    every_stream = [stream for streams in passes for stream in streams]
    blocks = {
        (layer, place): block_bytes(config, layer, streams, arithmetic, padded=padded, ep=ep)
        for layer in layers
        for place, streams in enumerate(passes)
    }
    has_heads = target is not None or workload.sequences > 0
    heads = copied_heads(config, workload, target) if has_heads else 0
    copies = [width * copied_weights(config, layer, every_stream, arithmetic, ep=ep) for layer in layers]
    # The losses of the routers are those of the first pass, and so is the routing that is given back.
    routing = sum(
        routing_bytes(config, layer, _tokens(passes[0]), padded=padded, recomputed=recomputed)
        for layer in layers
        if config.is_sparse(layer)
    )

    def inside(part: str) -> int:
        """Of all blocks, unless they are computed again."""
        return 0 if recomputed else sum(getattr(block, part) for block in blocks.values())

    return KeptBytes(
        embeddings=arithmetic.width * workload.pictures * config.vision.num_patches * 3 * config.vision.patch_size**2
        + INDEX * workload.texts * config.text.max_length,
        norms=sum(block.inputs for block in blocks.values())
        + inside("norms")
        + _tokens(every_stream) * (FP32 * config.dim + norm_bytes(config, arithmetic)),  # of the last one
        attention=inside("attention"),
        dense_ffn=inside("dense_ffn"),
        router=inside("router") + routing,
        head_and_merge=inside("head_and_merge"),
        experts=inside("experts"),
        task_heads=head_bytes(config, workload, arithmetic, target, ranks) if has_heads else 0,
        weight_copies=width * (_copied_patches(config, workload) + heads) + (0 if recomputed else sum(copies)),
        one_block=max(block.inside + copies[layer] for (layer, _), block in blocks.items()) if recomputed else 0,
    )


def _tokens(streams: Sequence[Stream]) -> int:
    return sum(stream.rows * stream.length for stream in streams)


def _copied_patches(config: EncoderConfig, workload: Workload) -> int:
    """Numbers in the matrix that makes tokens of patches, which autocast casts where there are pictures."""
    return 3 * config.vision.patch_size**2 * config.dim if workload.pictures else 0
