"""From weights of BEiT-v2's released visual tokenizers (VQ-KD) to a `VisualTokenizer`.

The names are those of microsoft/unilm, beit2/modeling_vqkd.py. Pure functions of weights; nothing is read here.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from mm_mhmoe.config import VisionConfig
from mm_mhmoe.models.visual_tokenizer import VisualTokenizerConfig

Weights = Mapping[str, Tensor]

HEAD_DIM = 64
"""Width of an attention head in every ViT-B, which weights do not tell."""

TEACHERS = {512: "open_clip:ViT-B-16-quickgelu/openai", 768: "timm:vit_base_patch16_224.dino"}
"""Teachers of the released tokenizers, by the width of their features."""

_MODULES = {
    "encoder.patch_embed.proj": "patch.proj",
    "encoder.fc_norm": "to_code.0",
    "encode_task_layer.0": "to_code.1",
    "encode_task_layer.2": "to_code.3",
    "decoder.patch_embed.proj": "from_code",
    "decoder.fc_norm": "to_teacher.0",
    "decode_task_layer.0": "to_teacher.1",
    "decode_task_layer.2": "to_teacher.3",
}
_POSITIONS = {"encoder.": "positions_ND", "decoder.": "decoder_positions_ND"}
# Statistics of their training: of the teacher, of losses, and moving averages that their quantizer does not use.
_UNUSED = ("teacher", "scaling", "loss", "quantize.embedding.cluster_size", "quantize.embedding.embed_avg",
           "quantize.embedding.initted")  # fmt: skip
_REFUSED = {
    "relative_position": "relative position bias",
    "rel_pos_bias": "relative position bias",
    "gamma_": "layer scale",
    "encoder.norm.": "mean pooling switched off",
}


def imported_config(
    weights: Weights, *, num_heads: int | None = None, teacher: str | None = None
) -> VisualTokenizerConfig:
    """The configuration that the shapes of their weights tell.

    Args:
        num_heads: attention heads; none: one for every 64 of the width.
        teacher: name of the teacher; none: that of the released tokenizer with features of this width.

    Raises:
        ValueError: weights are missing, are of another architecture, or leave heads or teacher open.
    """
    for part, meaning in _REFUSED.items():
        found = next((name for name in weights if part in name), None)
        if found is not None:
            raise ValueError(
                f"weight {found}: a tokenizer with {meaning} cannot be imported; the released ones have none"
            )
    dim, _, patch_size, _ = _weight(weights, "encoder.patch_embed.proj.weight").shape
    grid = round((_weight(weights, "encoder.pos_embed").shape[1] - 1) ** 0.5)
    num_codes, code_dim = _weight(weights, "quantize.embedding.weight").shape
    teacher_dim = len(_weight(weights, "decode_task_layer.2.bias"))
    if num_heads is None and dim % HEAD_DIM:
        raise ValueError(
            f"width {dim} is no multiple of {HEAD_DIM}, so the number of heads is unknown; give --num_heads"
        )
    if teacher is None and teacher_dim not in TEACHERS:
        raise ValueError(f"features of width {teacher_dim} are of no released teacher; name it with --teacher")
    return VisualTokenizerConfig(
        teacher=teacher or TEACHERS[teacher_dim],
        teacher_dim=teacher_dim,
        architecture="beit2",
        dim=dim,
        num_heads=num_heads or dim // HEAD_DIM,
        encoder_depth=_depth(weights, "encoder"),
        decoder_depth=_depth(weights, "decoder"),
        num_codes=num_codes,
        code_dim=code_dim,
        revive_below=0.0,
        vision=VisionConfig(image_size=grid * patch_size, patch_size=patch_size),
    )


def imported_weights(weights: Weights) -> dict[str, Tensor]:
    """Their weights under our names. A name that is not theirs is kept, so that loading tells of it."""
    renamed = {"quantizer.codebook_KC": _weight(weights, "quantize.embedding.weight")}
    for name, value in weights.items():
        module, _, kind = name.rpartition(".")
        part = name[: len("encoder.")]
        if name == "quantize.embedding.weight" or name.startswith(_UNUSED):
            continue
        if module in _MODULES:
            # A convolution whose kernel is its stride is a linear map of patches, channels first.
            renamed[f"{_MODULES[module]}.{kind}"] = value.flatten(1) if value.dim() == 4 else value
        elif name == f"{part}cls_token":
            positions_LD = _weight(weights, f"{part}pos_embed")[0]
            blocks = "encoder_blocks" if part == "encoder." else "decoder_blocks"
            renamed[f"{blocks}.cls_token_D"] = value[0, 0] + positions_LD[0]
            renamed[_POSITIONS[part]] = positions_LD[1:]
        elif name.startswith(("encoder.blocks.", "decoder.blocks.")):
            renamed[name.replace(".blocks.", "_blocks.", 1)] = value
        elif name == "quantize.cluster_size":
            # Zero right after their start of an epoch: then nothing is known, which is even use.
            total = value.sum()
            renamed["quantizer.share_K"] = value / total if total > 0 else torch.full_like(value, 1.0 / len(value))
        elif name not in ("encoder.pos_embed", "decoder.pos_embed"):
            renamed[name] = value
    return {name: value.float().clone().contiguous() for name, value in renamed.items()}


def _weight(weights: Weights, name: str) -> Tensor:
    if name not in weights:
        raise ValueError(f"there is no {name} among the weights; this is no checkpoint of BEiT-v2's VQ-KD")
    return weights[name]


def _depth(weights: Weights, part: str) -> int:
    return len({name.split(".")[2] for name in weights if name.startswith(f"{part}.blocks.")})
