"""Plain vision transformers of timm, as the picture side of an encoder."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from timm.models.vision_transformer import Block, VisionTransformer
from torch import Tensor, nn

from mm_mhmoe.config import EncoderConfig, TextConfig, VisionConfig
from mm_mhmoe.models.checkpoints import load_weights
from mm_mhmoe.models.importing.files import Taken
from mm_mhmoe.models.tasks import PretrainModel


def vit_config(vit: nn.Module, name: str, text: TextConfig) -> EncoderConfig:
    """The encoder that computes what this model computes, up to its last LayerNorm.

    Args:
        vit: made by timm.create_model.
        name: what error messages call it.
        text: of the encoder's other side, which starts from random weights.

    Raises:
        ValueError: the model has something that the encoder has not; says what.
    """
    if type(vit) is not VisionTransformer:
        raise ValueError(f"{name} is a {type(vit).__name__}; only timm's plain VisionTransformer can be imported")
    first: Any = vit.blocks[0]
    size = vit.patch_embed.img_size
    wrong = {
        "blocks that are not plain pre-LN ones": any(type(block) is not Block for block in vit.blocks),
        "another activation than GELU": not (
            isinstance(first.mlp.act, nn.GELU) and first.mlp.act.approximate == "none"
        ),
        "several prefix tokens": vit.num_prefix_tokens != 1,
        "no [CLS]": vit.cls_token is None,
        "a LayerNorm before the blocks": not isinstance(vit.norm_pre, nn.Identity),
        "no LayerNorm after the blocks": not isinstance(vit.norm, nn.LayerNorm),
        "pictures that are not square": size is None or size[0] != size[1],
    }
    found = [what for what, holds in wrong.items() if holds]
    if found:
        raise ValueError(f"{name} has {' and '.join(found)}, which this encoder has not; choose a plain ViT")
    defaults: Any = vit.pretrained_cfg
    return EncoderConfig(
        dim=vit.embed_dim,
        depth=len(vit.blocks),
        num_heads=first.attn.num_heads,
        ffn_dim=first.mlp.fc1.out_features,
        ffn="dense",
        vision=VisionConfig(
            image_size=size[0],
            patch_size=vit.patch_embed.patch_size[0],
            pixel_mean=defaults.get("mean", (0.5, 0.5, 0.5)),
            pixel_std=defaults.get("std", (0.5, 0.5, 0.5)),
        ),
        text=text,
        sub_ln=False,
        norm_eps=first.norm1.eps,
    )


def vit_encoder(weights: Mapping[str, Tensor], config: EncoderConfig, source: str) -> dict[str, Tensor]:
    """The encoder's weights that timm's give: all but the texts' and the mask token. The ViT's own head is left out.

    Raises:
        ValueError: a weight is absent, of another shape, or one that this encoder does not have; names it.
    """
    kept = {k: v for k, v in weights.items() if not k.startswith(("head.", "fc_norm."))}
    take = Taken(kept, prefix="", source=source)
    dim, ffn_dim, patch = config.dim, config.ffn_dim, config.vision.patch_size
    ours = {
        "image.patch.proj.weight": take("patch_embed.proj.weight", dim, 3, patch, patch).flatten(1),
        "image.patch.proj.bias": take("patch_embed.proj.bias", dim),
        "image.cls_token_D": take("cls_token", 1, 1, dim).flatten(),
        "image.positions_ND": take("pos_embed", 1, 1 + config.vision.num_patches, dim)[0],
    }
    parts: dict[str, dict[str, Tensor]] = {"norm": take.norm("norm", dim)}
    for layer in range(config.depth):
        block = f"blocks.{layer}"
        parts |= {
            f"{block}.attention_norm": take.norm(f"{block}.norm1", dim),
            f"{block}.attention.qkv": take.linear(f"{block}.attn.qkv", dim, 3 * dim),
            f"{block}.attention.proj": take.linear(f"{block}.attn.proj", dim, dim),
            f"{block}.ffn_norm": take.norm(f"{block}.norm2", dim),
            f"{block}.ffn.fc1": take.linear(f"{block}.mlp.fc1", dim, ffn_dim),
            f"{block}.ffn.fc2": take.linear(f"{block}.mlp.fc2", ffn_dim, dim),
        }
    if take.rest():
        raise ValueError(f"{source} has {', '.join(take.rest()[:3])}, which this encoder has not; choose a plain ViT")
    return ours | {f"{n}.{part}": value for n, values in parts.items() for part, value in values.items()}


def vit_model(weights: Mapping[str, Tensor], config: EncoderConfig, source: str, num_codes: int) -> PretrainModel:
    """A pretraining model whose picture side is the ViT; all else has random weights."""
    model = PretrainModel(config, num_codes)
    ours = {f"encoder.{k}": v for k, v in vit_encoder(weights, config, source).items()}
    load_weights(model, {**model.state_dict(), **ours}, source)
    return model.eval()
