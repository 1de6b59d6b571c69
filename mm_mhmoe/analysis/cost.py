"""FLOPs of an encoder, of one token and of one training step. One multiply-accumulate is two FLOPs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass

from mm_mhmoe.analysis.workload import Stream, Work, Workload
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
    sparse = config.num_sparse
    size = config.sparse_size if sparse else config.dense_size
    router = dim * moe.num_experts
    if moe.router in ("xmoe", "xmoe_released"):
        router = moe.router_dim * (dim + size.heads * moe.num_experts)
    return TokenFlops(
        attention=2 * config.depth * (4 * dim**2 + 2 * length * dim),
        dense_ffn=2 * (config.depth - sparse) * config.dense_size.macs,
        router=2 * sparse * router,
        head_and_merge=2 * sparse * size.projections,
        experts=2 * sparse * (size.macs - size.projections),
    )


@dataclass(frozen=True, kw_only=True)
class StepFlops(TokenFlops):
    """FLOPs of the forward pass of one step, by part: the blocks, patches to tokens, and the heads."""

    patch_embedding: int
    task_heads: int

    @property
    def total(self) -> int:
        return super().total + self.patch_embedding + self.task_heads

    @property
    def training(self) -> int:
        """Forward and backward: a product has two gradients, but pixels need none."""
        return 3 * self.total - self.patch_embedding


def step_flops(config: EncoderConfig, workload: Work, image_outputs: int, *, ranks: int = 1) -> StepFlops:
    """Matrix products of one process's step of pretraining with an image head of so many outputs, or of a language
    model, which has none.

    Heads work at masked positions only: D V each (V outputs, or words); with cls_loss once more, after 4 D^2 that make
    a state from [CLS]. The tokens of captions and of a language model cost D V each, too. Compared pairs cost 2 D P for
    their embeddings of width P, and P for each similarity: one of every picture with every text; over several ranks, of
    the own pictures with all texts, and of the own texts with all pictures. What is computed again, by `moe.keep` or
    activation checkpointing, is no part of it.
    """
    blocks = _block_flops(config, workload)
    patches, words = workload.hidden_patches(config), workload.hidden_words(config)
    heads = config.dim * (patches * image_outputs + words * config.text.vocab_size)
    if workload.cls_loss:
        heads = 2 * heads + 4 * config.dim**2 * (patches + words)
    heads += config.dim * workload.next_words(config) * config.text.vocab_size
    pairs, width = workload.compared, workload.embed_dim
    heads += 2 * pairs * config.dim * width + pairs * pairs * width * (1 if ranks == 1 else 2 * ranks)
    heads += workload.matched * config.dim * 2
    pixels = 3 * config.vision.patch_size**2
    return StepFlops(
        **blocks,
        patch_embedding=2 * workload.pictures * config.vision.num_patches * pixels * config.dim,
        task_heads=2 * heads,
    )


def _block_flops(config: EncoderConfig, workload: Work) -> dict[str, int]:
    blocks = {name: 0 for name in asdict(token_flops(config, 1))}
    for rows, length in workload.streams(config):
        for name, flops in asdict(token_flops(config, length)).items():
            blocks[name] += rows * length * flops
    return blocks


def recomputed_flops(config: EncoderConfig, workload: Workload) -> int:
    """What activation checkpointing adds to a step of one process: the blocks' forward products once more.

    Torch stops where a block keeps nothing any more. So its last product, that of a dense FFN or the merge layer, is
    not among them, unless stochastic depth (from the second block on) or LayerScale multiplies what comes out of it.
    """
    left_out = 0
    for layer in range(config.depth):
        if config.layer_scale is not None or (config.drop_path > 0 and layer > 0):
            continue
        product = config.dim * config.ffn_dim
        if config.is_sparse(layer):
            product = config.dim**2 if config.ffn == "mh_moe" and config.moe.projection_layers else 0
        left_out += 2 * product * sum(_last_way(streams, config.ffns(layer)) for streams in workload.passes(config))
    return sum(_block_flops(config, workload).values()) - left_out


def _last_way(streams: Sequence[Stream], ways: int) -> int:
    """Tokens of the last of a block's FFNs that has any: those of pairs, of texts, of pictures."""
    alone = [stream for stream in streams if ways < 3 or not (stream.image and stream.text)]
    by_way = (
        sum(stream.rows * stream.image for stream in alone),
        sum(stream.rows * stream.text for stream in alone),
        sum(stream.rows * stream.length for stream in streams if stream not in alone),
    )
    return sum(by_way) if ways == 1 else [tokens for tokens in by_way if tokens][-1]


def active_share(config: EncoderConfig) -> float:
    """Largest share of a sparse layer's experts that one token can use: k of E, or k for each of its H sub-tokens.

    Under expert choice all of them may take the same token. Experts of the other modality, and of pairs or those of
    single streams, are out of reach. Over layers with more and fewer pools it is the mean.
    """
    if config.ffn == "dense":
        return 1.0
    own_pool = config.num_sparse / config.sparse_ffns
    if config.moe.router == "expert_choice":
        return own_pool
    heads = config.moe.heads if config.ffn == "mh_moe" else 1
    return min(1.0, heads * config.moe.top_k / config.moe.num_experts) * own_pool
