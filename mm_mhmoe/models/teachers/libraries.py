"""Teachers from timm, from open_clip, and from this project's own model directories."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from mm_mhmoe.batch import Images, ImageTextBatch
from mm_mhmoe.models.library_weights import make_by_name
from mm_mhmoe.models.teachers.network import NetworkTeacher


def timm_teacher(name: str, *, pretrained: bool, grid: int) -> NetworkTeacher:
    """The last features of any timm model that has `forward_intermediates`, after its final norm."""
    import timm
    from timm.data import resolve_data_config

    network = make_by_name(
        f"teacher=timm:{name}", lambda: timm.create_model(name, pretrained=pretrained, num_classes=0)
    )
    if not hasattr(network, "forward_intermediates"):
        raise ValueError(f"teacher=timm:{name} gives no features of patches; choose another model of timm")
    data = resolve_data_config({}, model=network)

    def features(network: Any, pixels_BCHW: Tensor) -> Tensor:
        return network.forward_intermediates(
            pixels_BCHW, indices=1, norm=True, output_fmt="NCHW", intermediates_only=True
        )[-1]

    return NetworkTeacher(
        network, features, image_size=data["input_size"][-1], mean=data["mean"], std=data["std"], grid=grid
    )


def open_clip_teacher(architecture: str, tag: str, *, grid: int) -> NetworkTeacher:
    """The patches of an open_clip picture tower in the space of its embeddings, as BEiT-v2 takes them from CLIP.

    Of OpenAI's and open_clip's own vision transformers; other towers have no projection of patches and are refused.
    """
    import open_clip

    name = f"open_clip:{architecture}/{tag}"
    if architecture not in open_clip.list_models():
        raise ValueError(f"teacher={name}: open_clip has no {architecture}; see open_clip.list_models()")
    model = make_by_name(f"teacher={name}", lambda: open_clip.create_model(architecture, pretrained=tag or None))
    network = model.visual
    if not isinstance(network, open_clip.transformer.VisionTransformer) or network.attn_pool is not None:
        raise ValueError(
            f"teacher={name}: its picture tower projects no patches; choose a ViT, or name the tower as timm:NAME"
        )

    def features(network: Any, pixels_BCHW: Tensor) -> Tensor:
        found = network.forward_intermediates(
            pixels_BCHW, indices=1, normalize_intermediates=True, intermediates_only=True, output_fmt="NCHW"
        )["image_intermediates"][-1]
        return found if network.proj is None else torch.einsum("bchw,cp->bphw", found, network.proj)

    return NetworkTeacher(
        network,
        features,
        image_size=network.image_size[0],
        mean=network.preprocess_cfg["mean"],
        std=network.preprocess_cfg["std"],
        grid=grid,
    )


def own_teacher(source: str, *, grid: int) -> NetworkTeacher:
    """The patches of the encoder of a model directory, pictures alone. Raises ValueError if it holds no encoder."""
    from mm_mhmoe.models.checkpoints import load
    from mm_mhmoe.models.tasks import TaskModel

    model = load(source)
    if not isinstance(model, TaskModel):
        raise ValueError(f"teacher={source} holds no encoder; name a model of pretrain or finetune")

    def features(network: nn.Module, pixels_BCHW: Tensor) -> Tensor:
        states_BND = network(ImageTextBatch(images=Images(pixels_BCHW=pixels_BCHW))).streams[0].image_BND
        side = round((states_BND.shape[1] - 1) ** 0.5)
        return states_BND[:, 1:].transpose(1, 2).unflatten(2, (side, side))

    # The encoder normalises pixels by itself, from [-1, 1].
    half = (0.5, 0.5, 0.5)
    return NetworkTeacher(model.encoder, features, image_size=model.vision.image_size, mean=half, std=half, grid=grid)
