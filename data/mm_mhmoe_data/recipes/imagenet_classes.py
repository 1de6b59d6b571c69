"""The 1,000 classes of ImageNet-1k in the order of their labels, and the prompts of CLIP's zero-shot scoring."""

from __future__ import annotations

from functools import cache


@cache
def imagenet_classes() -> dict[str, str]:
    """WordNet id -> name, in the order of the labels. The names are those that CLIP's authors chose."""
    from open_clip import IMAGENET_CLASSNAMES
    from timm.data import ImageNetInfo

    # Both have the classes in the order of their WordNet ids.
    return dict(zip(ImageNetInfo("imagenet-1k").label_names(), IMAGENET_CLASSNAMES, strict=True))


def zero_shot_templates() -> list[str]:
    """The 80 prompts of CLIP's authors, with {c} where the name goes."""
    from open_clip import OPENAI_IMAGENET_TEMPLATES

    return [template("{c}") for template in OPENAI_IMAGENET_TEMPLATES]
