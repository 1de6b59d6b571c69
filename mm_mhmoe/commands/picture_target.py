"""The target of hidden patches from a run's options."""

from __future__ import annotations

from pathlib import Path

from mm_mhmoe.config import VisionConfig
from mm_mhmoe.models.checkpoints import fingerprint, load
from mm_mhmoe.models.image_target import ImageTarget, Kind
from mm_mhmoe.models.teachers import build_teacher
from mm_mhmoe.models.visual_tokenizer import VisualTokenizer
from mm_mhmoe.objectives.picture_targets import CodeTarget, FeatureLoss, FeatureTarget, PixelTarget


def picture_target(
    kind: Kind, vision: VisionConfig, *, visual_tokenizer: Path | None, teacher: str | None, feature_loss: FeatureLoss
) -> tuple[CodeTarget | PixelTarget | FeatureTarget, ImageTarget]:
    """The target, and what a model that predicts it says about itself.

    Raises:
        ValueError: an option that this target needs is missing, or one is given that it has no use for.
    """
    if teacher is not None and kind != "features":
        raise ValueError(f"teacher={teacher} is for image_target=features; here it is {kind}: leave one of them out")
    if kind == "pixels":
        return PixelTarget(vision.patch_size), ImageTarget(kind=kind)
    if kind == "features":
        if teacher is None:
            raise ValueError(
                "image_target=features needs a teacher: pixels, hog, timm:NAME, open_clip:ARCH/TAG or local-dir:DIR"
            )
        made = FeatureTarget(build_teacher(teacher, vision), loss=feature_loss)
        return made, ImageTarget(kind=kind, source=f"{teacher} {feature_loss}")
    if visual_tokenizer is None:
        raise ValueError(
            "image_target=codes needs visual_tokenizer, the directory of one (mm-mhmoe vqkd); pixels needs none"
        )
    codes = load_tokenizer(visual_tokenizer)
    if codes.config.vision != vision:
        raise ValueError(
            f"encoder.vision={vision} differs from the visual tokenizer's {codes.config.vision}; codes and "
            "patches would not match: use the same image_size and patch_size"
        )
    return CodeTarget(codes), ImageTarget(kind="codes", source=fingerprint(visual_tokenizer))


def load_tokenizer(directory: Path) -> VisualTokenizer:
    """Raises ValueError if it is no visual tokenizer."""
    codes = load(directory)
    if not isinstance(codes, VisualTokenizer):
        raise ValueError(f"visual_tokenizer={directory} is no visual tokenizer; make one with mm-mhmoe vqkd")
    return codes
