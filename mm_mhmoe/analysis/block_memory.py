"""Memory that one block keeps for the backward pass of one pass through it, as a formula.

Symbols: T tokens, D model dim, S sub-tokens, d their width, N rows sent to experts, P and F columns of an expert's
first product and rows of its second matrix.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass

from mm_mhmoe.analysis.arithmetic import FP32, INDEX, STATISTICS, Arithmetic
from mm_mhmoe.analysis.workload import Stream
from mm_mhmoe.config import EncoderConfig
from mm_mhmoe.sizing import FFNSize

# On CPUs: nn.SelfAttention keeps probabilities up to this length; in bf16 nn.Experts fills rows up to a multiple.
THREE_PRODUCTS, GRANULE = 512, 256


@dataclass(frozen=True, kw_only=True)
class BlockBytes:
    """Bytes of one block by part, named as in KeptBytes.

    Args:
        inputs: the residual stream that comes in, which the first LayerNorm reads.
        split_inputs: its copies by modality, which a multiway LayerNorm reads in its place.
    """

    inputs: int
    split_inputs: int
    norms: int
    attention: int
    dense_ffn: int = 0
    router: int = 0
    head_and_merge: int = 0
    experts: int = 0

    @property
    def inside(self) -> int:
        """What is kept beside the residual stream that came in."""
        return sum(asdict(self).values()) - self.inputs


def block_bytes(
    config: EncoderConfig, layer: int, streams: Sequence[Stream], arithmetic: Arithmetic, *, padded: bool, ep: int
) -> BlockBytes:
    """What autograd saves in block `layer` for these streams.

    Args:
        padded: whether tokens come with a mask of padding.
        ep: devices over which the experts are divided.
    """
    tokens = sum(stream.rows * stream.length for stream in streams)
    width = arithmetic.width
    inner: dict[str, int] = {}
    if config.is_sparse(layer):
        maps = 0
        if config.ffn == "mh_moe" and config.moe.projection_layers:
            maps = 2 * (2 * config.moe.projection_layers - 1)  # every map keeps its input, and every GELU between two
        inner = {
            "router": _router(config, tokens, padded=padded),
            "head_and_merge": maps * width * tokens * config.dim,
            "experts": _experts(
                config, tokens, arithmetic, padded=padded, ep=ep, pools=_used_ffns(config, streams, layer)
            ),
        }
    else:
        inner = {"dense_ffn": _dense_ffn(config, tokens, arithmetic)}
    inputs = FP32 * tokens * config.dim
    scaled = 0 if config.layer_scale is None else 2 * tokens * width * config.dim
    return BlockBytes(
        inputs=inputs,
        split_inputs=inputs if config.multiway and _is_copied(streams) else 0,
        norms=tokens * (FP32 * config.dim + 2 * norm_bytes(config, arithmetic)) + scaled,
        attention=_attention(config, streams, arithmetic),
        **inner,
    )


def norm_bytes(config: EncoderConfig, arithmetic: Arithmetic) -> int:
    """What a norm that reads the residual stream keeps of a row beside it: its statistics. RMSNorm has one, and on
    CPUs, where torch computes it step by step, keeps what it scales as well; its kernel on CUDA is not measured."""
    if config.norm == "layer":
        return STATISTICS
    return FP32 + (FP32 * config.dim if arithmetic.device == "cpu" else 0)


def _attention(config: EncoderConfig, streams: Sequence[Stream], arithmetic: Arithmetic) -> int:
    """Input, q, k and v, what they mix to, and the output projection's input; on CPUs the probabilities of short rows.

    With relative positions, whose gradient torch's fused kernel on CPUs has not, long rows of pictures keep their
    scores there, and scaled copies of q, k and v. On CUDA the mask is counted beside what the fused kernel keeps; that
    is not measured.
    """
    width, kept = arithmetic.width, 0
    biased = [stream.image > 0 and config.relative_positions != "none" for stream in streams]
    on_cpu = arithmetic.device == "cpu"
    three = [on_cpu and stream.length <= THREE_PRODUCTS for stream in streams]
    scored = [is_three or (on_cpu and has_bias) for is_three, has_bias in zip(three, biased, strict=True)]
    # Several streams are put together in a new tensor, and so is what a LayerNorm wants wider.
    joined = len(streams) > 1 or (config.sub_ln and arithmetic.norm_width > width)
    for stream, has_bias, has_scores in zip(streams, biased, scored, strict=True):
        rows, length = stream.rows, stream.length
        tokens = rows * length
        kept += tokens * config.dim * width
        kept += tokens * config.dim * 3 * width * (has_scores + (not all(scored)))
        if has_scores:
            kept += rows * config.num_heads * length**2 * width
        else:
            kept += tokens * ((config.dim * width if joined else 0) + config.num_heads * FP32)
            kept += has_bias * rows * config.num_heads * length**2 * width
            kept += (stream.causal and not has_bias) * rows * length**2 * width  # the mask, as addends
        kept += tokens * config.dim * width
        if config.sub_ln:
            kept += tokens * (config.dim * arithmetic.norm_width + STATISTICS)
    return kept


def _hidden(rows: int, size: FFNSize, sub_ln: bool, arithmetic: Arithmetic) -> int:
    """What autograd keeps between the two products of an FFN: GELU's input, or SwiGLU's and one factor; then the
    second product's input, before it the LayerNorm's."""
    columns = (size.matrices - 1) * size.hidden + (size.hidden if size.matrices == 3 else 0)
    kept = rows * arithmetic.width * (columns + size.hidden)
    return kept + rows * (arithmetic.norm_width * size.hidden + STATISTICS) if sub_ln else kept


def _dense_ffn(config: EncoderConfig, tokens: int, arithmetic: Arithmetic) -> int:
    return tokens * config.dim * arithmetic.width + _hidden(tokens, config.dense_size, config.sub_ln, arithmetic)


def _router(config: EncoderConfig, tokens: int, *, padded: bool) -> int:
    """fp32 input, scores once for each function of them, and the choices."""
    moe, size = config.moe, config.sparse_size
    scores = {"top_k": 1, "expert_choice": 1, "sigmoid_bias": 1, "xmoe": 3, "xmoe_released": 1}[moe.router]
    low = {"xmoe": 2, "xmoe_released": 1}.get(moe.router, 0) * moe.router_dim
    small = {"xmoe": 4, "xmoe_released": 2, "sigmoid_bias": 3}.get(moe.router, 0) * FP32
    row = FP32 * (size.width + scores * size.experts + low) + _choices(config) + small + padded
    return tokens * size.heads * row


def _choices(config: EncoderConfig) -> int:
    """Bytes of a (sub-)token's experts and their weights; under expert choice they are the scores."""
    return 0 if config.moe.router == "expert_choice" else config.moe.top_k * (INDEX + FP32)


def routing_bytes(config: EncoderConfig, layer: int, tokens: int, *, padded: bool, recomputed: bool) -> int:
    """What is kept of the routing of block `layer` beside what the block itself keeps: because a step gives its routing
    back, and for the balance and the z-loss.

    Args:
        recomputed: whether the block keeps nothing itself.
    """
    experts, ways, router = config.moe.num_experts, config.ffns(layer), config.moe.router

    def given_back(experts: int) -> int:
        """Logits, scores, choices; under expert choice what was taken; the mask of padding."""
        return 2 * FP32 * experts + _choices(config) + experts * (router == "expert_choice") + padded

    row = given_back(experts) + FP32 + padded * FP32 * experts  # of the z-loss: its roots, and logits of real tokens
    if not recomputed:
        row -= _choices(config) + FP32 * experts * (router != "sigmoid_bias")  # its scores are functions of those kept
    if ways > 1:  # the same once more, over the experts of all pools
        row += given_back(ways * experts)
    return tokens * config.sparse_size.heads * row


def _experts(config: EncoderConfig, tokens: int, arithmetic: Arithmetic, *, padded: bool, ep: int, pools: int) -> int:
    size, width, keep = config.sparse_size, arithmetic.width, config.moe.keep
    subtokens = tokens * size.heads
    rows = subtokens * size.top_k
    # Of the rows the (sub-)token, the place and the weight; where a (sub-)token's rows begin; which choices are sent.
    experts_choose = config.moe.router == "expert_choice"
    listed = subtokens * (size.experts if experts_choose else size.top_k)
    kept = INDEX * (2 * rows + subtokens) + FP32 * rows + (listed if padded or experts_choose else 0)
    kept += rows * size.width * width  # the outputs
    grouped = arithmetic.grouped and keep != "tokens"
    kept += (
        _grouped(config, rows, arithmetic)
        if grouped
        else _looped(config, rows, arithmetic, experts=pools * size.experts // ep)
    )
    in_fp32 = width == FP32 or config.ffn == "moe" or not config.moe.projection_layers
    shares_input = not in_fp32 or width == FP32  # the shared expert reads the input itself, not a narrower copy
    keeps_input = not grouped and (keep != "all" or (size.shared_experts > 0 and shares_input))
    if keeps_input and (padded or not in_fp32):  # otherwise it is the router's
        kept += subtokens * size.width * (FP32 if in_fp32 else width)
    if size.shared_experts:
        whole = FFNSize(dim=size.dim, hidden=size.shared_experts * size.hidden, matrices=size.matrices)
        kept += _hidden(subtokens, whole, config.sub_ln, arithmetic)
        if grouped or not shares_input:
            kept += subtokens * size.width * width
    return kept


def _grouped(config: EncoderConfig, rows: int, arithmetic: Arithmetic) -> int:
    """Gathered rows, the expert of each, and the first product; with keep=all what autograd keeps after it."""
    size, width = config.sparse_size, arithmetic.width
    kept = rows * (size.width * width + INDEX)
    if config.moe.keep == "hidden":
        return kept + rows * (size.matrices - 1) * size.hidden * width
    kept += _hidden(rows, size, config.sub_ln, arithmetic)
    if config.sub_ln:  # each row's scale, and the LayerNorm's output that it multiplies
        kept += rows * size.hidden * (FP32 + arithmetic.norm_width)
    return kept


def _looped(config: EncoderConfig, rows: int, arithmetic: Arithmetic, *, experts: int) -> int:
    """The first product; with keep=all also gathered rows, activation, and the LayerNorm's output and statistics."""
    size, width, keep = config.sparse_size, arithmetic.width, config.moe.keep
    filled = rows
    if arithmetic.is_cpu_bf16 and config.moe.router == "expert_choice":  # as many rows for every expert
        filled = experts * -(-rows // (experts * GRANULE)) * GRANULE
    elif arithmetic.is_cpu_bf16:
        filled = max(rows + experts * GRANULE // 2, experts * GRANULE)  # each by half of it on average
    first = filled * (size.matrices - 1) * size.hidden * width
    if keep != "all":
        return first if keep == "hidden" else 0
    kept = first + rows * (size.width + config.moe.expert_bias) * width + filled * size.hidden * width
    return kept + filled * (size.hidden * width + STATISTICS) if config.sub_ln else kept


def copied_weights(
    config: EncoderConfig, layer: int, streams: Sequence[Stream], arithmetic: Arithmetic, *, ep: int
) -> int:
    """Numbers in the matrices of block `layer` that autocast casts for torch's Linear or a grouped product; looped
    experts keep none."""
    dim, used = config.dim, _used_ffns(config, streams, layer)
    attention = min(config.ways, _used_modalities(streams)) * 4 * dim**2
    if not config.is_sparse(layer):
        return attention + used * config.dense_size.parameters
    size = config.sparse_size
    # Of every expert on the device: all matrices, the first ones, or none.
    of_expert = {"all": size.matrices, "hidden": size.matrices - 1, "tokens": 0}[config.moe.keep]
    here = size.experts // ep * of_expert if arithmetic.grouped else 0
    return attention + used * (size.parameters - (size.experts * size.matrices - here) * size.width * size.hidden)


def _used_ffns(config: EncoderConfig, streams: Sequence[Stream], layer: int) -> int:
    """How many of a block's FFNs see tokens of these streams."""
    if config.ffns(layer) == 1:
        return 1
    if config.ffns(layer) == 3:
        return len({(stream.image > 0, stream.text > 0) for stream in streams})
    return _used_modalities(streams)


def _is_copied(streams: Sequence[Stream]) -> bool:
    """Whether the tokens of one modality do not lie together in the flat list (nn.segments.split_modalities)."""
    return any(stream.image and stream.text for stream in streams) or len(streams) > _used_modalities(streams)


def _used_modalities(streams: Sequence[Stream]) -> int:
    return any(stream.image for stream in streams) + any(stream.text for stream in streams)
