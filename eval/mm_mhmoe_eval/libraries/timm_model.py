"""Picture models of timm. Shapes: B batch, C classes (channels where a picture is meant), F features."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from mm_mhmoe_data.recipes.imagenet_classes import imagenet_classes
from torch import Tensor, nn

from mm_mhmoe.batch import Images
from mm_mhmoe.config import TextConfig, VisionConfig
from mm_mhmoe.models.library_weights import make_by_name
from mm_mhmoe_eval.libraries.inputs import PILTransform


class TimmModel(nn.Module):
    """A model of timm with timm's own preparation of pictures: Classifies, GivesFeatures. It takes no texts.

    Args:
        model: of `timm.create_model`.

    Raises ValueError for pictures that are not square.
    """

    tokenizer = None
    text = TextConfig()
    mean_C11: Tensor
    std_C11: Tensor

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        from timm.data import create_transform, resolve_data_config

        wanted: dict[str, Any] = resolve_data_config({}, model=model)
        _, height, width = wanted["input_size"]
        if height != width:
            raise ValueError(f"the model takes pictures of {height}x{width} pixels; only square ones can be scored")
        self.model: Any = model.eval()
        unchanged = wanted | {"mean": (0.0, 0.0, 0.0), "std": (1.0, 1.0, 1.0)}
        self.transform = PILTransform(create_transform(**unchanged, is_training=False), height)
        # Nothing is hidden from this model, so that it needs no patches.
        self.vision = VisionConfig(
            image_size=height, patch_size=height, pixel_mean=wanted["mean"], pixel_std=wanted["std"]
        )
        self.classes = _classes(model)
        self.register_buffer("mean_C11", torch.tensor(self.vision.pixel_mean).view(-1, 1, 1), persistent=False)
        self.register_buffer("std_C11", torch.tensor(self.vision.pixel_std).view(-1, 1, 1), persistent=False)

    @torch.no_grad()
    def class_logits(self, images: Images) -> Tensor:
        """(B, C), from uint8 pictures."""
        return self.model(self._normalised(images))

    @torch.no_grad()
    def image_features(self, images: Images) -> Tensor:
        """(B, F): what the classifier is put on."""
        return self.model.forward_head(self.model.forward_features(self._normalised(images)), pre_logits=True)

    def _normalised(self, images: Images) -> Tensor:
        return (images.pixels_BCHW.float() / 255.0 - self.mean_C11) / self.std_C11


def _classes(model: nn.Module) -> tuple[str, ...]:
    """ImageNet-1k's as the shards name them; of another subset of ImageNet timm's names; else numbers."""
    from timm.data import ImageNetInfo, infer_imagenet_subset

    subset = infer_imagenet_subset(model)
    if subset == "imagenet-1k":
        return tuple(imagenet_classes().values())
    if subset is None:
        return tuple(map(str, range(model.num_classes)))  # type: ignore[arg-type]
    return tuple(ImageNetInfo(subset).label_descriptions())


def timm_model(name: str, architecture: str, weights: str | None) -> TimmModel:
    """A model of timm.

    Args:
        name: how the user named it, for errors.
        architecture: of timm, with the tag of pretrained weights where it has several.
        weights: a .safetensors file, empty for random ones, or None for timm's pretrained ones.
    """
    import timm

    if weights and not (weights.endswith(".safetensors") and Path(weights).is_file()):
        raise ValueError(f"{name}: {weights} is no .safetensors file; only such files are read")

    def make() -> TimmModel:
        return TimmModel(timm.create_model(architecture, pretrained=weights is None, checkpoint_path=weights or ""))

    return make_by_name(name, make)
