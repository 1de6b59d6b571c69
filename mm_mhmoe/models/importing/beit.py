"""BEiT's and BEiT-v2's vision transformers, by the names of their authors' code and of timm.

github.com/microsoft/unilm (beit, beit2); arXiv 2106.08254, 2208.06366.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import torch
from timm.layers import Mlp
from timm.models.beit import Beit
from torch import Tensor, nn

from mm_mhmoe.config import EncoderConfig, TextConfig, VisionConfig
from mm_mhmoe.config.encoder import RelativeKind
from mm_mhmoe.models.checkpoints import load_weights
from mm_mhmoe.models.importing.files import Taken, shape_of
from mm_mhmoe.models.tasks import PretrainModel
from mm_mhmoe.nn.relative_position import CLS_ENTRIES

_TABLE = "relative_position_bias_table"
_SHARED = f"rel_pos_bias.{_TABLE}"
# Buffers that follow from the size; heads, of which `beit_model` takes that of codes; the extra blocks and head that
# BEiT-v2 pretrains [CLS] with, which no user of the encoder has.
_LEFT_OUT = re.compile(r".*relative_position_index|(lm_)?head\..*|cls_pt_(layers|norm|lm_head)\..*")
_NORM_EPS = 1e-6
# Of the base model; where a fresh one starts is all that it says.
_LAYER_SCALE = 0.1
# ImageNet's, which timm names for BEiT-v2.
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def beit_config(
    weights: Mapping[str, Tensor],
    source: str,
    text: TextConfig,
    *,
    pixel_mean: tuple[float, float, float] = IMAGENET_MEAN,
    pixel_std: tuple[float, float, float] = IMAGENET_STD,
) -> EncoderConfig:
    """The encoder that these weights belong to, read from their shapes.

    Args:
        weights: with the names of a released checkpoint, or of timm's Beit.
        source: what error messages call them.
        text: of the encoder's other side, which starts from random weights.
        pixel_mean: mean of each colour channel that the model was trained with.
        pixel_std: deviation of each.

    Raises:
        ValueError: a weight that tells a size is absent or of another shape.
    """

    def shape(name: str, dims: int) -> tuple[int, ...]:
        return shape_of(weights, name, dims, source)

    dim, _, patch, _ = shape("patch_embed.proj.weight", 4)
    ffn_dim, _ = shape("blocks.0.mlp.fc1.weight", 2)
    own = f"blocks.0.attn.{_TABLE}"
    kind: RelativeKind = "shared" if _SHARED in weights else "layer"
    offsets, num_heads = shape(_SHARED if kind == "shared" else own, 2)
    width = round(max(0, offsets - CLS_ENTRIES) ** 0.5)
    if width**2 + CLS_ENTRIES != offsets or width % 2 == 0:
        raise ValueError(
            f"{source}: the table of relative positions has {offsets} rows, which is no (2 n - 1)^2 + {CLS_ENTRIES}; "
            "its pictures are not square, or it is another architecture"
        )
    return EncoderConfig(
        dim=dim,
        depth=1 + max(int(m[1]) for name in weights if (m := re.match(r"blocks\.(\d+)\.", name))),
        num_heads=num_heads,
        ffn_dim=ffn_dim,
        ffn="dense",
        vision=VisionConfig(
            image_size=(width + 1) // 2 * patch, patch_size=patch, pixel_mean=pixel_mean, pixel_std=pixel_std
        ),
        text=text,
        sub_ln=False,
        norm_eps=_NORM_EPS,
        image_positions="pos_embed" in weights,
        relative_positions=kind,
        layer_scale=_LAYER_SCALE if "blocks.0.gamma_1" in weights else None,
    )


def check_beit(vit: nn.Module, name: str) -> None:
    """Raises ValueError when timm's Beit has something that the encoder has not; says what."""
    assert isinstance(vit, Beit)
    first: Any = vit.blocks[0]
    if type(first.mlp) is not Mlp:
        raise ValueError(f"{name} has SwiGLU FFNs, which this encoder's dense FFN has not; choose a BEiT or BEiT-v2")


def beit_encoder(weights: Mapping[str, Tensor], config: EncoderConfig, source: str) -> dict[str, Tensor]:
    """The encoder's weights that these give: all but the texts', and the mask token where they have none.

    The last LayerNorm is `norm` of a pretrained model. A classifier that averages patches has `fc_norm` behind the
    average instead; here it stands before, on every token.

    Raises:
        ValueError: a weight is absent, of another shape, or one that this encoder does not have; names it.
    """
    kept = {k: v for k, v in weights.items() if not _LEFT_OUT.fullmatch(k)}
    take = Taken(kept, prefix="", source=source)
    dim, ffn_dim, patch = config.dim, config.ffn_dim, config.vision.patch_size
    table = ((2 * config.vision.grid - 1) ** 2 + CLS_ENTRIES, config.num_heads)
    ours = {
        "image.patch.proj.weight": take("patch_embed.proj.weight", dim, 3, patch, patch).flatten(1),
        "image.patch.proj.bias": take("patch_embed.proj.bias", dim),
        "image.cls_token_D": take("cls_token", 1, 1, dim).flatten(),
    }
    if "mask_token" in weights:
        ours["image.mask_token_D"] = take("mask_token", 1, 1, dim).flatten()
    if config.image_positions:
        ours["image.positions_ND"] = take("pos_embed", 1, 1 + config.vision.num_patches, dim)[0]
    if config.relative_positions == "shared":
        ours["relative_positions.table_RH"] = take(_SHARED, *table)
    parts: dict[str, dict[str, Tensor]] = {"norm": take.norm("fc_norm" if "fc_norm.weight" in weights else "norm", dim)}
    for layer in range(config.depth):
        block = f"blocks.{layer}"
        parts |= {
            f"{block}.attention_norm": take.norm(f"{block}.norm1", dim),
            f"{block}.attention.qkv": _qkv(take, f"{block}.attn", dim),
            f"{block}.attention.proj": take.linear(f"{block}.attn.proj", dim, dim),
            f"{block}.ffn_norm": take.norm(f"{block}.norm2", dim),
            f"{block}.ffn.fc1": take.linear(f"{block}.mlp.fc1", dim, ffn_dim),
            f"{block}.ffn.fc2": take.linear(f"{block}.mlp.fc2", ffn_dim, dim),
        }
        if config.relative_positions == "layer":
            ours[f"{block}.relative_positions.table_RH"] = take(f"{block}.attn.{_TABLE}", *table)
        if config.layer_scale is not None:
            ours[f"{block}.attention_scale.scale_D"] = take(f"{block}.gamma_1", dim)
            ours[f"{block}.ffn_scale.scale_D"] = take(f"{block}.gamma_2", dim)
    if take.rest():
        raise ValueError(f"{source} has {', '.join(take.rest()[:3])}, which BEiT has not; it is another model")
    return ours | {f"{n}.{part}": value for n, values in parts.items() for part, value in values.items()}


def beit_model(weights: Mapping[str, Tensor], config: EncoderConfig, source: str, num_codes: int) -> PretrainModel:
    """A pretraining model whose picture side is the BEiT; all else has random weights.

    Its head of visual codes, `lm_head`, is taken where it is there and num_codes is its size.
    """
    model = PretrainModel(config, num_codes)
    ours = {f"encoder.{k}": v for k, v in beit_encoder(weights, config, source).items()}
    if "lm_head.weight" in weights and len(weights["lm_head.weight"]) == num_codes:
        head = Taken(weights, prefix="", source=source).linear("lm_head", config.dim, num_codes)
        ours |= {f"image_head.{part}": value for part, value in head.items()}
    load_weights(model, {**model.state_dict(), **ours}, source)
    return model.eval()


def _qkv(take: Taken, name: str, dim: int) -> dict[str, Tensor]:
    """One matrix for the three. Keys have no bias in BEiT; here it is zero, and no gradient moves it: a number added to
    all scores of a query changes no softmax."""
    query, value = take(f"{name}.q_bias", dim), take(f"{name}.v_bias", dim)
    return {
        "weight": take(f"{name}.qkv.weight", 3 * dim, dim),
        "bias": torch.cat([query, torch.zeros_like(query), value]),
    }
