"""Memory that a training step keeps for its backward pass, as a formula.

What is counted is what autograd saves, and the row numbers that the experts keep beside it. Not counted: buffers that
live for a moment (gradients of logits, communication), the optimiser's, and what an allocator wastes.

Symbols: T tokens, D model dim, S sub-tokens, d their width, N rows sent to experts, P and F columns of an expert's
first product and rows of its second matrix, M masked positions, V classes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Literal

from mm_mhmoe.analysis.workload import Stream, Workload
from mm_mhmoe.config import EncoderConfig
from mm_mhmoe.sizing import FFNSize

Device = Literal["cuda", "cpu"]
Precision = Literal["bf16-mixed", "16-mixed", "32-true"]

FP32, INDEX = 4, 8
STATISTICS = 2 * FP32  # a LayerNorm keeps mean and deviation of each row
FUSED_FROM = 2**24  # objectives.cross_entropy: from so many logits of a loss on, none of them is kept
# On CPUs: nn.SelfAttention keeps probabilities up to this length; in bf16 nn.Experts fills rows up to a multiple.
THREE_PRODUCTS, GRANULE = 512, 256


@dataclass(frozen=True, kw_only=True)
class KeptBytes:
    """Bytes kept for the backward pass, by part.

    Args:
        embeddings: patches and word ids.
        norms: the residual stream, once for each LayerNorm that reads it; and what LayerScale multiplies.
        attention: projections, and the attention itself.
        dense_ffn: hidden states of the dense FFNs.
        router: inputs and scores of the routers.
        head_and_merge: inputs of multi-head and merge layers.
        experts: inputs, hidden states and outputs of the experts, shared ones too, and where rows came from.
        task_heads: states and log-probabilities, or gradients in place of many of them; what pairs are compared by.
        weight_copies: weights in half precision, which autocast makes once a step.
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

    @property
    def total(self) -> int:
        return sum(asdict(self).values())


@dataclass(frozen=True, kw_only=True)
class Arithmetic:
    """How a device computes: it decides what is kept, and how wide."""

    precision: Precision
    device: Device

    def __post_init__(self) -> None:
        if self.device == "cpu" and self.precision == "16-mixed":
            raise ValueError("precision=16-mixed is for cuda; on a cpu use bf16-mixed or 32-true")

    @property
    def width(self) -> int:
        """Bytes of a number that products are computed in."""
        return FP32 if self.precision == "32-true" else 2

    @property
    def norm_width(self) -> int:
        """Bytes of what a LayerNorm inside a layer reads: autocast on CUDA computes it in fp32."""
        return FP32 if self.device == "cuda" else self.width

    @property
    def is_cpu_bf16(self) -> bool:
        return self.device == "cpu" and self.precision == "bf16-mixed"

    @property
    def grouped(self) -> bool:
        """Whether nn.Experts computes all experts in one grouped product."""
        return self.device == "cuda" and self.precision == "bf16-mixed"


def kept_bytes(
    config: EncoderConfig,
    workload: Workload,
    arithmetic: Arithmetic,
    num_codes: int | None = None,
    *,
    ep: int = 1,
    ranks: int = 1,
) -> KeptBytes:
    """One step of the encoder, and with num_codes of pretraining, where experts are divided over ep devices, and pairs
    are compared with those of `ranks` processes.

    Routing counts as balanced: a device's experts then get as many rows as its own tokens send.

    moe.capacity_factor, which drops rows, and stochastic depth are not looked at.
    """
    passes, width = workload.passes(config), arithmetic.width
    tokens_by_pass = [sum(stream.rows * stream.length for stream in streams) for streams in passes]
    tokens = sum(tokens_by_pass)
    sparse = config.num_sparse
    pixels = 3 * config.vision.patch_size**2
    maps = 0
    if config.ffn == "mh_moe" and config.moe.projection_layers:
        maps = 2 * (2 * config.moe.projection_layers - 1)  # every map keeps its input, and every GELU between two
    return KeptBytes(
        embeddings=width * workload.pictures * config.vision.num_patches * pixels
        + INDEX * workload.texts * config.text.max_length,
        norms=(2 * config.depth + 1) * tokens * (FP32 * config.dim + STATISTICS)
        + (0 if config.layer_scale is None else 2 * config.depth * tokens * width * config.dim),
        attention=config.depth * sum(_attention(config, streams, arithmetic) for streams in passes),
        dense_ffn=(config.depth - sparse) * _dense_ffn(config, tokens, arithmetic),
        # The losses of the routers are those of the first pass.
        router=sum(
            sparse * _router(config, part, padded=workload.texts > 0, balanced=place == 0)
            for place, part in enumerate(tokens_by_pass)
            if sparse
        ),
        head_and_merge=sparse * maps * width * tokens * config.dim,
        experts=sum(
            sparse * _experts(config, part, arithmetic, padded=workload.texts > 0, ep=ep)
            for part in tokens_by_pass
            if sparse
        ),
        task_heads=0 if num_codes is None else _task_heads(config, workload, arithmetic, num_codes, ranks),
        weight_copies=width * _copied_weights(config, workload, arithmetic, num_codes, ep) if width < FP32 else 0,
    )


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


def _router(config: EncoderConfig, tokens: int, *, padded: bool, balanced: bool) -> int:
    """fp32 input, scores once for each function of them, their logits for the z-loss, and the choices.

    Args:
        balanced: whether the routing has a balance and a z-loss.
    """
    moe, size = config.moe, config.sparse_size
    scores = {"top_k": 1, "expert_choice": 1, "sigmoid_bias": 1, "xmoe": 3, "xmoe_released": 1}[moe.router]
    low = {"xmoe": 2, "xmoe_released": 1}.get(moe.router, 0) * moe.router_dim
    choices = 0 if moe.router == "expert_choice" else moe.top_k * (INDEX + FP32)
    small = {"xmoe": 4, "xmoe_released": 2, "sigmoid_bias": 3}.get(moe.router, 0) * FP32
    masks = 2 * INDEX * balanced + 1 if padded else 0
    row = FP32 * (size.width + (scores + balanced) * size.experts + low) + choices + small + masks
    return tokens * size.heads * row


def _experts(config: EncoderConfig, tokens: int, arithmetic: Arithmetic, *, padded: bool, ep: int) -> int:
    size, width, keep = config.sparse_size, arithmetic.width, config.moe.keep
    subtokens = tokens * size.heads
    rows = subtokens * size.top_k
    # Of the rows the (sub-)token, the place and the weight; where a (sub-)token's rows begin; which choices are sent.
    experts_choose = config.moe.router == "expert_choice"
    listed = subtokens * (size.experts if experts_choose else size.top_k)
    kept = INDEX * (2 * rows + subtokens) + FP32 * rows + (listed if padded or experts_choose else 0)
    kept += rows * size.width * width  # the outputs
    grouped = arithmetic.grouped and keep != "tokens"
    kept += _grouped(config, rows, arithmetic) if grouped else _looped(config, rows, arithmetic, ep=ep)
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


def _looped(config: EncoderConfig, rows: int, arithmetic: Arithmetic, *, ep: int) -> int:
    """The first product; with keep=all also gathered rows, activation, and the LayerNorm's output and statistics."""
    size, width, keep = config.sparse_size, arithmetic.width, config.moe.keep
    filled, here = rows, size.experts // ep
    if arithmetic.is_cpu_bf16 and config.moe.router == "expert_choice":  # as many rows for every expert
        filled = here * -(-rows // (here * GRANULE)) * GRANULE
    elif arithmetic.is_cpu_bf16:
        filled = max(rows + here * GRANULE // 2, here * GRANULE)  # each by half of it on average
    first = filled * (size.matrices - 1) * size.hidden * width
    if keep != "all":
        return first if keep == "hidden" else 0
    kept = first + rows * (size.width + config.moe.expert_bias) * width + filled * size.hidden * width
    return kept + filled * (size.hidden * width + STATISTICS) if config.sub_ln else kept


def _task_heads(config: EncoderConfig, workload: Workload, arithmetic: Arithmetic, num_codes: int, ranks: int) -> int:
    """What every loss keeps; with cls_loss those of masks once more, and what makes a state from [CLS]."""
    words = config.text.vocab_size
    masked = [(number, num_codes) for number in workload.patches_by_loss(config)]
    masked += [(number, words) for number in workload.words_by_loss(config)]
    kept = sum(_classified(config, number, classes, arithmetic) for number, classes in masked)
    if workload.cls_loss:
        from_cls = config.dim * (5 * arithmetic.width + arithmetic.norm_width) + STATISTICS
        kept = 2 * kept + sum(number for number, _ in masked) * from_cls
    kept += _classified(config, workload.caption_words(config), words, arithmetic)
    kept += workload.matched * config.dim * arithmetic.width
    return kept + _compared(config, workload, arithmetic, ranks)


def _classified(config: EncoderConfig, positions: int, classes: int, arithmetic: Arithmetic) -> int:
    """A cross-entropy: positions, states and log-probabilities; or the gradients of states and head."""
    if positions * classes < FUSED_FROM:
        return positions * (4 * INDEX + config.dim * arithmetic.width + FP32 * classes)
    return positions * (3 * INDEX + FP32 * config.dim) + FP32 * classes * (config.dim + 1)


def _compared(config: EncoderConfig, workload: Workload, arithmetic: Arithmetic, ranks: int) -> int:
    """[CLS] states; embeddings as projected, of length one, and scaled; log-probabilities of both directions. Over
    several ranks both embeddings are scaled, and the others' are there as well."""
    own, width = workload.compared, FP32 * workload.embed_dim
    kept = own * (2 * config.dim * arithmetic.width + 5 * width) + 2 * FP32 * own * own * ranks
    return kept if ranks == 1 else kept + own * width + 2 * ranks * own * width


def _used_ffns(config: EncoderConfig, workload: Workload, layer: int) -> int:
    """How many of a block's FFNs see tokens of these streams."""
    if config.ffns(layer) == 1:
        return 1
    if config.ffns(layer) == 3:
        streams = [stream for streams in workload.passes(config) for stream in streams]
        return len({(stream.image > 0, stream.text > 0) for stream in streams})
    return _used_modalities(workload)


def _used_modalities(workload: Workload) -> int:
    return (workload.pictures > 0) + (workload.texts > 0)


def _copied_weights(
    config: EncoderConfig, workload: Workload, arithmetic: Arithmetic, num_codes: int | None, ep: int
) -> int:
    """Matrices that autocast casts for torch's Linear or a grouped product; looped experts keep none."""
    dim, used = config.dim, {layer: _used_ffns(config, workload, layer) for layer in range(config.depth)}
    ways = min(config.ways, _used_modalities(workload))
    copied = 3 * config.vision.patch_size**2 * dim + ways * config.depth * 4 * dim**2
    copied += sum(n for layer, n in used.items() if not config.is_sparse(layer)) * config.dense_size.parameters
    if config.num_sparse:
        sparse = sum(n for layer, n in used.items() if config.is_sparse(layer))
        size = config.sparse_size
        # Of every expert on the device: all matrices, the first ones, or none.
        of_expert = {"all": size.matrices, "hidden": size.matrices - 1, "tokens": 0}[config.moe.keep]
        here = size.experts // ep * of_expert if arithmetic.grouped else 0
        copied += sparse * (size.parameters - (size.experts * size.matrices - here) * size.width * size.hidden)
    return copied if num_codes is None else copied + _copied_heads(config, workload, num_codes)


def _copied_heads(config: EncoderConfig, workload: Workload, num_codes: int) -> int:
    """Heads whose logits are made at once; of pairs' own heads those that are in use."""
    dim, words = config.dim, config.text.vocab_size
    texts = (*workload.words_by_loss(config), workload.caption_words(config))
    copied = 0
    for numbers, classes in ((workload.patches_by_loss(config), num_codes), (texts, words)):
        copied += dim * classes * any(0 < number * classes < FUSED_FROM for number in numbers)
    copied += 4 * dim**2 * workload.cls_loss
    if workload.contrastive_loss:
        copied += 2 * dim * workload.embed_dim
    return copied
