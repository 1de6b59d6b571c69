"""torchscale's BEiT3 as a contestant, from a folder of its own: it pins a timm that this project cannot use."""

from __future__ import annotations

import importlib
import importlib.util
import sys
import types
import warnings
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from mm_mhmoe.batch import ImageTextBatch
from mm_mhmoe.config import EncoderConfig


class TorchscaleEncoder(nn.Module):
    """BEiT-3 as released, with random weights.

    Args:
        folder: made by `pip install --target FOLDER --no-deps torchscale==0.3.0`.
    """

    def __init__(self, config: EncoderConfig, folder: Path) -> None:
        super().__init__()
        self.mask_id = config.text.mask_id
        scale, beit3 = _modules(folder)
        self.model = beit3.BEiT3(
            scale.EncoderConfig(
                encoder_embed_dim=config.dim,
                encoder_attention_heads=config.num_heads,
                encoder_ffn_embed_dim=config.ffn_dim,
                encoder_layers=config.depth,
                img_size=config.vision.image_size,
                patch_size=config.vision.patch_size,
                vocab_size=config.text.vocab_size,
                max_source_positions=config.text.num_positions + 2,  # its first two positions are never used
                multiway=True,
                subln=config.sub_ln,
                no_output_layer=True,
            )
        )

    def forward(self, stream: ImageTextBatch) -> Tensor:
        """The states of one stream: (B, L, D). Pixels are scaled to [-1, 1] first, which it leaves to its user."""
        inputs: dict[str, Any] = {}
        if stream.images is not None:
            dtype = self.model.vision_embed.proj.weight.dtype
            inputs["visual_tokens"] = stream.images.pixels_BCHW.to(dtype) / 127.5 - 1
            inputs["vision_masked_position"] = stream.images.masked_BN
        if stream.texts is not None:
            ids_BL = stream.texts.ids_BL
            if stream.texts.masked_BL is not None:
                ids_BL = ids_BL.masked_fill(stream.texts.masked_BL, self.mask_id)
            inputs |= {"textual_tokens": ids_BL, "text_padding_position": ~stream.texts.valid_BL}
        return self.model(**inputs)["encoder_out"]


def _modules(folder: Path) -> tuple[Any, Any]:
    """Its modules of configurations and of BEiT3. What this environment has already wins over the folder's packages."""
    if str(folder) not in sys.path:
        sys.path.append(str(folder))
    if "fairscale" not in sys.modules and importlib.util.find_spec("fairscale") is None:
        # Imported for sharding and checkpointing, which nothing here uses.
        fairscale = types.ModuleType("fairscale.nn")
        fairscale.checkpoint_wrapper = fairscale.wrap = None  # type: ignore[attr-defined]
        sys.modules |= {"fairscale": types.ModuleType("fairscale"), "fairscale.nn": fairscale}
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)
            scale = importlib.import_module("torchscale.architecture.config")
            return scale, importlib.import_module("torchscale.model.BEiT3")
    except ImportError as error:
        raise ValueError(
            f"torchscale={folder}: {error}; make that folder with `pip install --target {folder} --no-deps "
            "torchscale==0.3.0`, or leave the option out"
        ) from error
