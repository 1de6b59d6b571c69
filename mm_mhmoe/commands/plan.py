from __future__ import annotations

import json as json_format
from dataclasses import fields, replace
from pathlib import Path
from typing import Any, Literal

import yaml
from mm_mhmoe_eval.files import write_text_atomic
from rich.console import Console

from mm_mhmoe.analysis.arithmetic import Arithmetic, Checkpointing, Device, Precision
from mm_mhmoe.analysis.mesh import mesh_of
from mm_mhmoe.analysis.plan import make_plan
from mm_mhmoe.analysis.workload import PatchTarget, Workload
from mm_mhmoe.commands.parser import configured
from mm_mhmoe.commands.plan_tables import print_plan, print_solution
from mm_mhmoe.config import PRESETS, Activation, EncoderConfig, VisionConfig
from mm_mhmoe.sizing import MATRICES, FFNSize, Parity, solve

PresetName = Literal["tiny", "small", "base", "large"]
ImageTarget = Literal["codes", "pixels", "features"]
FeatureLoss = Literal["cosine", "smooth_l1"]


def plan(
    encoder: EncoderConfig = EncoderConfig(),  # noqa: B008  (frozen)
    preset: PresetName | None = None,
    run_config: Path | None = None,
    batch_images: int = 32,
    batch_texts: int = 32,
    batch_pairs: int = 32,
    image_mask: float = 0.4,
    text_mask: float = 0.15,
    pair_image_mask: float = 0.4,
    pair_text_mask: float = 0.5,
    cls_loss: bool = False,
    caption_loss: bool = False,
    contrastive_loss: bool = False,
    itm_loss: bool = False,
    embed_dim: int = 256,
    image_target: ImageTarget = "codes",
    num_codes: int = 8192,
    teacher: str | None = None,
    teacher_dim: int | None = None,
    feature_loss: FeatureLoss = "cosine",
    activation_checkpointing: Checkpointing = "none",
    devices: int | None = None,
    dp: int | None = None,
    fsdp: int = 1,
    ep: int = 1,
    precision: Precision = "bf16-mixed",
    device: Device = "cuda",
    json: Path | None = None,
) -> None:
    """Says what a run of pretraining or of a language model costs before it is started: parameters, FLOPs, memory on
    each device.

    Args:
        encoder: the encoder.
        preset: a size that replaces dim, depth, num_heads and ffn_dim (tiny: also vision, text and drop_path); the
            rest comes from the options.
        run_config: YAML file of mm-mhmoe pretrain, whose encoder, batches, masks, losses, targets and activation
            checkpointing are taken instead of the options here; or of mm-mhmoe lm.
        batch_images: pictures of a step and device, in the picture stream; 0: no such stream.
        batch_texts: texts of a step and device, in the text stream; 0: no such stream.
        batch_pairs: pairs of a step and device, in the pair stream; 0: no such stream.
        image_mask: share of the patches that are hidden in the picture stream.
        text_mask: share of the tokens that are hidden in the text stream.
        pair_image_mask: share of the patches that are hidden in pairs.
        pair_text_mask: share of the tokens that are hidden in pairs.
        cls_loss: also predict what is hidden from the row's [CLS].
        caption_loss: also write the texts of pairs from left to right.
        contrastive_loss: also compare pictures and texts of pairs, with those of all devices.
        itm_loss: also tell pairs from others; a second pass of three rows a pair.
        embed_dim: width of what contrastive_loss compares.
        image_target: what hidden patches are predicted as: codes, pixels, or features of a teacher. What makes codes or
            features is not counted.
        num_codes: vocabulary of the visual tokenizer, for image_target=codes.
        teacher: for image_target=features, as in mm-mhmoe pretrain.
        teacher_dim: how wide the features of that teacher are; of pixels and hog it is known.
        feature_loss: cosine or smooth_l1, for image_target=features.
        activation_checkpointing: blocks computes every block again in the backward pass and keeps only what goes into
            it (run.activation_checkpointing of mm-mhmoe pretrain).
        devices: how many there are; dp is then what fsdp and ep leave of them.
        dp: copies of the model. The mesh has dp x fsdp x ep devices, and each reads its own rows.
        fsdp: devices over which all parameters, gradients and optimiser states are divided.
        ep: devices over which the experts are divided (expert parallelism).
        precision: as in mm-mhmoe pretrain.
        device: what computes; it decides which kernels run, and so what is kept for the backward pass.
        json: file to write all numbers to.
    """
    workload = Workload(
        batch_images=batch_images,
        batch_texts=batch_texts,
        batch_pairs=batch_pairs,
        image_mask=image_mask,
        text_mask=text_mask,
        pair_image_mask=pair_image_mask,
        pair_text_mask=pair_text_mask,
        cls_loss=cls_loss,
        caption_loss=caption_loss,
        contrastive_loss=contrastive_loss,
        itm_loss=itm_loss,
        embed_dim=embed_dim,
    )
    if run_config is not None:
        if preset is not None:
            raise ValueError(f"preset={preset} and run_config={run_config} both name an encoder; leave one out")
        run = _arguments_of(run_config)
        encoder = run["encoder"]
        if encoder.pictures:
            workload = Workload(**{part.name: run[part.name] for part in fields(Workload) if part.name in run})
            image_target, teacher, feature_loss = run["image_target"], run["teacher"], run["feature_loss"]
        else:
            workload = Workload(sequences=run["batch_size"])
        activation_checkpointing = run["run"].activation_checkpointing
    elif preset is not None:
        encoder = resized(encoder, preset)
    target = _patch_target(image_target, encoder.vision, num_codes, teacher, teacher_dim, feature_loss)
    made = make_plan(
        encoder,
        workload,
        mesh=mesh_of(devices, dp, fsdp, ep),
        arithmetic=Arithmetic(precision=precision, device=device, activation_checkpointing=activation_checkpointing),
        target=target if encoder.pictures else None,
    )
    print_plan(made, Console())
    _write(json, made.to_dict())


def parity(
    reference_hidden: int,
    dim: int = 768,
    reference_experts: int = 1,
    reference_top_k: int = 1,
    reference_activation: Activation = "gelu",
    heads: int = 4,
    top_k: int = 2,
    experts: int = 8,
    hidden_multiple: int = 1,
    expert_multiple: int | None = None,
    projection_layers: int = 1,
    shared_experts: int = 0,
    activation: Activation = "gelu",
    parity: Parity = "flops",
    hidden: int = 0,
    json: Path | None = None,
) -> None:
    """Finds the size of the experts with which a sparse layer costs what a dense layer or another sparse one costs.

    Args:
        reference_hidden: hidden size of the reference's FFN, or of each of its experts.
        dim: width of a token in both layers.
        reference_experts: experts of the reference; 1: a dense FFN.
        reference_top_k: experts that the reference sends a token to.
        reference_activation: of the reference: gelu (two matrices) or swiglu (three).
        heads: sub-tokens that MH-MoE splits a token into; 1 with projection_layers 0: a plain MoE.
        top_k: experts that each (sub-)token is sent to.
        experts: experts of the layer.
        hidden_multiple: only multiples of this are hidden sizes (8 for grouped products in bf16 on CUDA).
        expert_multiple: solve experts as well: the multiple of this number whose parameters are nearest to the
            reference's (arXiv 2411.16205); needs parity flops.
        projection_layers: linear maps in the multi-head layer and in the merge layer each.
        shared_experts: experts that every (sub-)token goes through as well.
        activation: of the layer's experts.
        parity: flops: no more multiplications per token than the reference, and as near as whole numbers allow.
            params: the same number of parameters. none: no solving; compares the layer of that hidden size.
        hidden: hidden size of the layer, for parity none.
        json: file to write the solution to.
    """
    if (parity == "none") != (hidden > 0):
        raise ValueError(f"hidden={hidden} with parity={parity}: give hidden with parity none, and only then")
    reference = FFNSize(
        dim=dim,
        hidden=reference_hidden,
        experts=reference_experts,
        top_k=reference_top_k,
        matrices=MATRICES[reference_activation],
    )
    if reference_hidden < 1:
        raise ValueError(f"reference_hidden={reference_hidden} must be 1 or more")
    wanted = FFNSize(
        dim=dim,
        hidden=hidden,
        experts=experts,
        top_k=top_k,
        heads=heads,
        projection_layers=projection_layers,
        matrices=MATRICES[activation],
        shared_experts=shared_experts,
    )
    solution = solve(reference, wanted, parity=parity, hidden_multiple=hidden_multiple, expert_multiple=expert_multiple)
    print_solution(solution, Console())
    _write(json, solution.to_dict())


def resized(encoder: EncoderConfig, preset: PresetName) -> EncoderConfig:
    """The encoder with what a preset changes about the default one.

    Raises ValueError when the encoder has a value of its own there.
    """
    default, changes = EncoderConfig(), {}
    for part in fields(EncoderConfig):
        named, given, usual = (getattr(config, part.name) for config in (PRESETS[preset], encoder, default))
        if named == usual:
            continue
        if given not in (usual, named):
            raise ValueError(
                f"preset={preset} sets encoder.{part.name}={named}, but encoder.{part.name}={given} was given; leave "
                "one of them out"
            )
        changes[part.name] = named
    return replace(encoder, **changes)


def _patch_target(
    kind: ImageTarget,
    vision: VisionConfig,
    num_codes: int,
    teacher: str | None,
    teacher_dim: int | None,
    feature_loss: FeatureLoss,
) -> PatchTarget:
    if kind != "features":
        if teacher is not None or teacher_dim is not None:
            raise ValueError(
                f"teacher={teacher}, teacher_dim={teacher_dim} with image_target={kind}: both are for "
                "image_target=features; leave them out"
            )
        pixels = 3 * vision.patch_size**2
        return PatchTarget(outputs=num_codes) if kind == "codes" else PatchTarget(outputs=pixels, loss="mse")
    if teacher in ("pixels", "hog"):
        from mm_mhmoe.models.teachers import build_teacher  # brings torch

        teacher_dim = build_teacher(teacher, vision).dim
    if teacher_dim is None:
        raise ValueError(
            f"image_target=features with teacher={teacher}: say with teacher_dim how wide its features are, which only "
            "the network itself would tell"
        )
    return PatchTarget(outputs=teacher_dim, loss=feature_loss)


def _arguments_of(run_config: Path) -> dict[str, Any]:
    from mm_mhmoe.commands.lm import lm  # bring the whole training stack
    from mm_mhmoe.commands.pretrain import pretrain

    return configured(lm if _is_of_texts_alone(run_config) else pretrain, run_config)


def _is_of_texts_alone(run_config: Path) -> bool:
    """Whether the file's encoder sees no pictures. What else is wrong with the file, its command's parser says."""
    try:
        values = yaml.safe_load(run_config.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError):
        return False
    encoder = values.get("encoder") if isinstance(values, dict) else None
    return isinstance(encoder, dict) and encoder.get("pictures") is False


def _write(path: Path | None, values: dict[str, Any]) -> None:
    if path is not None:
        write_text_atomic(path, json_format.dumps(values, indent=2) + "\n")
