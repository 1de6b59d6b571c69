from __future__ import annotations

import argparse
import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from safetensors import SafetensorError
from safetensors.torch import load_file

from mm_mhmoe.commands.run_dir import provenance
from mm_mhmoe.models.checkpoints import load_weights, save
from mm_mhmoe.models.visual_tokenizer import VisualTokenizer
from mm_mhmoe.models.visual_tokenizer_import import imported_config, imported_weights


def vqkd(src: Path, out: Path, num_heads: int | None = None, teacher: str | None = None) -> None:
    """Turns a checkpoint of BEiT-v2's visual tokenizer (VQ-KD) into a model directory, for pretrain --visual_tokenizer.

    Args:
        src: the .pth as released, or its weights as .safetensors. Of a .pth only tensors are read; no code in it runs.
        out: directory to write; must not exist.
        num_heads: attention heads; without it, one for every 64 of the width, as in the released ones.
        teacher: name of the teacher, as in visual_tokenizer.teacher of mm-mhmoe vqkd; without it, that of the released
            tokenizer of this width (CLIP ViT-B/16: 512, DINO ViT-B/16: 768). It is only needed to train on.
    """
    arguments = dict(locals())
    if out.exists():
        raise ValueError(f"out={out} exists; choose another --out")
    weights = read_checkpoint(src)
    config = imported_config(weights, num_heads=num_heads, teacher=teacher)
    model = VisualTokenizer(config)
    load_weights(model, imported_weights(weights), src)
    save(model, out, run=provenance("import vqkd", arguments))
    vision = config.vision
    Console().print(
        f"import vqkd: {src} -> {out}: {config.num_codes} codes of {config.code_dim}, {vision.grid}x{vision.grid} "
        f"patches of {vision.patch_size} px, {config.encoder_depth} + {config.decoder_depth} blocks of {config.dim}",
        highlight=False,
    )


def read_checkpoint(src: Path) -> dict[str, torch.Tensor]:
    """The weights of a .safetensors or of a .pth, where they lie at the top or under `model` or `state_dict`."""
    if not src.is_file():
        raise ValueError(f"src={src} is no file; name a .pth or .safetensors checkpoint of VQ-KD")
    try:
        if src.suffix == ".safetensors":
            return load_file(src)
        # Theirs also hold their command line, a Namespace of plain values.
        with torch.serialization.safe_globals([argparse.Namespace]):
            content: Any = torch.load(src, map_location="cpu", weights_only=True)
    except (OSError, RuntimeError, ValueError, EOFError, KeyError, SafetensorError, pickle.UnpicklingError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ValueError(
            f"src={src} cannot be read ({reason}); download it again, or give its weights as .safetensors"
        ) from error
    for key in ("model", "state_dict"):
        if isinstance(content, Mapping) and isinstance(content.get(key), Mapping):
            content = content[key]
            break
    if not isinstance(content, Mapping) or not all(isinstance(value, torch.Tensor) for value in content.values()):
        raise ValueError(f"src={src} holds no weights by name, neither at its top nor under model or state_dict")
    return dict(content)
