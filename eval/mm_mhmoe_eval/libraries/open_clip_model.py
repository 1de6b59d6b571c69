"""Dual encoders of open_clip. Shapes: B batch, C channels, L text length, E embedding."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from mm_mhmoe.batch import Images, Texts
from mm_mhmoe.config import TextConfig, VisionConfig
from mm_mhmoe.models.library_weights import make_by_name
from mm_mhmoe_eval.libraries.inputs import PILTransform, WholeRows


class OpenClipModel(nn.Module):
    """A dual encoder with open_clip's own tokenizer and preparation of pictures: EmbedsPairs.

    Args:
        model: of `open_clip.create_model`.
        tokenizer: of `open_clip.get_tokenizer`.

    Raises ValueError for pictures that are not square.
    """

    mean_C11: Tensor
    std_C11: Tensor

    def __init__(self, model: nn.Module, tokenizer: Any) -> None:
        super().__init__()
        from open_clip.transform import PreprocessCfg, image_transform_v2

        wanted = PreprocessCfg(**model.visual.preprocess_cfg)  # type: ignore[arg-type, union-attr]
        height, width = wanted.input_size[1:]
        if height != width:
            raise ValueError(f"the model takes pictures of {height}x{width} pixels; only square ones can be scored")
        self.model = model.eval()
        unchanged = replace(wanted, mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0))
        self.transform = PILTransform(image_transform_v2(unchanged, is_train=False), height)
        self.tokenizer = WholeRows(tokenizer)
        # Nothing is hidden from this model and no id is looked up: patches and special ids stand for nothing.
        self.vision = VisionConfig(
            image_size=height, patch_size=height, pixel_mean=tuple(wanted.mean), pixel_std=tuple(wanted.std)
        )
        self.text = TextConfig(vocab_size=tokenizer.vocab_size, max_length=tokenizer.context_length)
        self.register_buffer("mean_C11", torch.tensor(self.vision.pixel_mean).view(-1, 1, 1), persistent=False)
        self.register_buffer("std_C11", torch.tensor(self.vision.pixel_std).view(-1, 1, 1), persistent=False)

    @torch.no_grad()
    def embed_images(self, images: Images) -> Tensor:
        """L2-normalised (B, E), from uint8 pictures."""
        normalised_BCHW = (images.pixels_BCHW.float() / 255.0 - self.mean_C11) / self.std_C11
        return self.model.encode_image(normalised_BCHW, normalize=True)  # type: ignore[operator]

    @torch.no_grad()
    def embed_texts(self, texts: Texts) -> Tensor:
        """L2-normalised (B, E)."""
        return self.model.encode_text(texts.ids_BL, normalize=True)  # type: ignore[operator]


def open_clip_model(name: str, architecture: str, weights: str) -> OpenClipModel:
    """A model of open_clip.

    Args:
        name: how the user named it, for errors.
        architecture: one of `open_clip.list_models()`.
        weights: a tag of open_clip's pretrained weights, a file of weights, or empty for random ones.
    """
    import open_clip

    if architecture not in open_clip.list_models():
        raise ValueError(f"{name}: open_clip has no {architecture}; see open_clip.list_models()")
    tags = open_clip.list_pretrained_tags_by_model(architecture)
    if weights and weights.lower() not in tags and not Path(weights).is_file():
        raise ValueError(
            f"{name}: {weights} is neither a file nor a tag of {architecture}; it has {', '.join(tags) or 'none'}"
        )

    def make() -> OpenClipModel:
        model = open_clip.create_model(architecture, pretrained=weights or None)
        return OpenClipModel(model, open_clip.get_tokenizer(architecture))

    return make_by_name(name, make)
