"""Released BEiT-3 checkpoints (github.com/microsoft/unilm, beit3), whose encoder is torchscale's BEiT3."""

from __future__ import annotations

import re
from collections.abc import Mapping

import torch
from torch import Tensor

from mm_mhmoe.config import EncoderConfig, TextConfig, VisionConfig
from mm_mhmoe.models.importing.files import Taken, shape_of

_PREFIX = "beit3."
# fairseq's tables of positions begin with rows for padding, which no position uses.
_OFFSET = 2
# The width of a head is no shape of any weight.
_HEADS = {768: 12, 1024: 16, 1408: 16}
_WAYS = {"image": "A", "text": "B"}


def beit3_config(
    weights: Mapping[str, Tensor], source: str, *, num_heads: int | None = None, max_length: int = 64
) -> EncoderConfig:
    """The encoder that these weights belong to, read from their shapes.

    Args:
        weights: with the names of a released checkpoint.
        source: what error messages call them.
        num_heads: attention heads; None: as published for this width.
        max_length: longest text in tokens; the table of positions keeps all of its rows.

    Raises:
        ValueError: a weight that tells a size is absent or of another shape.
    """

    def shape(name: str, dims: int) -> tuple[int, ...]:
        return shape_of(weights, _PREFIX + name, dims, source)

    dim, _, patch, _ = shape("vision_embed.proj.weight", 4)
    vocab_size, _ = shape("text_embed.weight", 2)
    ffn_dim, _ = shape("encoder.layers.0.ffn.A.fc1.weight", 2)
    patches = shape("encoder.embed_positions.A.weight", 2)[0] - _OFFSET - 1
    text_positions = shape("encoder.embed_positions.B.weight", 2)[0] - _OFFSET
    layers = [int(m[1]) for name in weights if (m := re.match(r"beit3\.encoder\.layers\.(\d+)\.", name))]
    side = round(max(patches, 0) ** 0.5)
    if side < 1 or side**2 != patches:
        raise ValueError(
            f"{source}: {_PREFIX}encoder.embed_positions.A.weight has {patches + _OFFSET + 1} rows, which is no square "
            f"of patches and {_OFFSET + 1} more; it is another architecture"
        )
    if num_heads is None:
        if dim not in _HEADS:
            raise ValueError(f"{source} is {dim} wide, which is no published size; give --num_heads")
        num_heads = _HEADS[dim]
    return EncoderConfig(
        dim=dim,
        depth=max(layers) + 1,
        num_heads=num_heads,
        ffn_dim=ffn_dim,
        ffn="dense",
        vision=VisionConfig(image_size=side * patch, patch_size=patch),
        # Where the mask's row is, only the tokenizer tells (`project_order`). Without it, an unused row stands in.
        text=TextConfig(vocab_size=vocab_size, max_length=max_length, positions=text_positions, mask_id=vocab_size - 1),
        multiway=True,
        # Models that were fine-tuned for VQAv2 and ImageNet have none: their heads begin with one.
        final_norm=f"{_PREFIX}encoder.layer_norm.A.weight" in weights,
    )


def beit3_encoder(weights: Mapping[str, Tensor], config: EncoderConfig, source: str) -> dict[str, Tensor]:
    """Weights of `build_encoder(config)` from those of a released checkpoint.

    Raises:
        ValueError: a weight is absent, of another shape, or one that this encoder does not have; names it.
    """
    take = Taken(weights, prefix=_PREFIX, source=source)
    dim, ffn_dim, patch = config.dim, config.ffn_dim, config.vision.patch_size
    ours: dict[str, Tensor] = {
        "image.patch.proj.weight": take("vision_embed.proj.weight", dim, 3, patch, patch).flatten(1),
        "image.patch.proj.bias": take("vision_embed.proj.bias", dim),
        "image.cls_token_D": take("vision_embed.cls_token", 1, 1, dim).flatten(),
        "image.mask_token_D": take("vision_embed.mask_token", 1, 1, dim).flatten(),
        "image.positions_ND": take("encoder.embed_positions.A.weight", _OFFSET + 1 + config.vision.num_patches, dim)[
            _OFFSET:
        ],
        "text.tokens.weight": take("text_embed.weight", config.text.vocab_size, dim),
        "text.positions_LD": take("encoder.embed_positions.B.weight", _OFFSET + config.text.num_positions, dim)[
            _OFFSET:
        ],
    }

    def add(name: str, parts: Mapping[str, Tensor]) -> None:
        ours.update({f"{name}.{part}": value for part, value in parts.items()})

    for way, letter in _WAYS.items():
        for layer in range(config.depth):
            block, theirs = f"blocks.{layer}", f"encoder.layers.{layer}"
            qkv = [take.linear(f"{theirs}.self_attn.{part}_proj.{letter}", dim, dim) for part in "qkv"]
            add(
                f"{block}.attention.qkv.{way}",
                {part: torch.cat([linear[part] for linear in qkv]) for part in ("weight", "bias")},
            )
            add(f"{block}.attention.norm.{way}", take.norm(f"{theirs}.self_attn.inner_attn_ln.{letter}", dim))
            add(f"{block}.attention.proj.{way}", take.linear(f"{theirs}.self_attn.out_proj.{letter}", dim, dim))
            add(f"{block}.attention_norm.{way}", take.norm(f"{theirs}.self_attn_layer_norm.{letter}", dim))
            add(f"{block}.ffn_norm.{way}", take.norm(f"{theirs}.final_layer_norm.{letter}", dim))
            add(f"{block}.ffn.{way}.fc1", take.linear(f"{theirs}.ffn.{letter}.fc1", dim, ffn_dim))
            add(f"{block}.ffn.{way}.norm", take.norm(f"{theirs}.ffn.{letter}.ffn_layernorm", ffn_dim))
            add(f"{block}.ffn.{way}.fc2", take.linear(f"{theirs}.ffn.{letter}.fc2", ffn_dim, dim))
        if config.final_norm:
            add(f"norm.{way}", take.norm(f"encoder.layer_norm.{letter}", dim))
    unknown = [name for name in take.rest() if name.startswith(_PREFIX)]
    if unknown:
        raise ValueError(f"{source} has {', '.join(unknown[:3])}, which BEiT-3's encoder does not; it is another model")
    return ours
