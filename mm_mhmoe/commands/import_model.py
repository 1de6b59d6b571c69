from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import timm as timm_models
from mm_mhmoe_data.labelled import read_names
from mm_mhmoe_data.recipes.answers import read_answers_file
from mm_mhmoe_data.recipes.imagenet_classes import imagenet_classes
from mm_mhmoe_data.tokenizer import MASK, TOKENIZER_FILE, Tokenizer
from rich.console import Console
from timm.models.beit import Beit

from mm_mhmoe.commands.run_dir import provenance
from mm_mhmoe.config import TextConfig
from mm_mhmoe.models.checkpoints import at_image_size, describe, save
from mm_mhmoe.models.importing import (
    Task,
    beit3_config,
    beit3_model,
    beit3_task,
    beit_config,
    beit_model,
    check_beit,
    project_order,
    project_tokenizer,
    read_state_dict,
    reorder_words,
    vit_config,
    vit_model,
)
from mm_mhmoe.models.tasks import TaskModel


def beit3(
    source: Path,
    out: Path,
    sentencepiece: Path | None = None,
    image_size: int | None = None,
    max_length: int = 64,
    num_heads: int | None = None,
    num_codes: int = 8192,
    task: Task | None = None,
    names: Path | None = None,
) -> None:
    """Turns a released BEiT-3 checkpoint into a model directory, for --init, finetune, eval and upcycle.

    A checkpoint with the heads of a task becomes a model of this task, any other one a pretraining model.

    Args:
        source: the .pth file. Only tensors and plain values are read from it.
        out: directory to write; must not exist.
        sentencepiece: beit3.spm. Without it the model has no tokenizer, and is of use for pictures only.
        image_size: side of pictures from now on; the positions of patches are interpolated. Without it, the
            checkpoint's.
        max_length: longest text in tokens from now on, begin and end tokens included.
        num_heads: attention heads, for widths that were never published.
        num_codes: vocabulary of the visual tokenizer for further pretraining; its head starts from random weights.
        task: what the checkpoint was made for; without it, what its heads tell. Captioning must be named, as such a
            checkpoint has the names of a pretrained one. pretrain takes the encoder alone.
        names: what the head of a vqa or imagenet checkpoint tells apart, in its order: answer2label.txt as data build
            vqav2 or beit3 writes it; class names, one a line (without it, those of ImageNet-1k).
    """
    arguments = dict(locals())
    _check(out)
    weights = read_state_dict(source)
    task = task or beit3_task(weights)
    config = beit3_config(weights, str(source), num_heads=num_heads, max_length=max_length)
    words = None
    if sentencepiece is not None:
        words, pieces = project_tokenizer(sentencepiece)
        weights = reorder_words(weights, project_order(pieces, config.text.vocab_size))
        config = replace(config, text=replace(config.text, mask_id=MASK))
    told = _names(task, names)
    model = beit3_model(weights, config, str(source), num_codes, task=task, names=told)
    _write(model, image_size, out, "import beit3", arguments, words)


def beit2(
    source: Path,
    out: Path,
    image_size: int | None = None,
    tokenizer: Path | None = None,
    max_length: int = 64,
    num_codes: int = 8192,
) -> None:
    """Turns a checkpoint of BEiT-v2's authors into a pretraining model: its picture side; texts start at random.

    Pretrained and fine-tuned ones are read. Pixels are normalised as these were: by ImageNet's mean and deviation.

    Args:
        source: the .pth file (beitv2_*). Only tensors and plain values are read from it.
        out: directory to write; must not exist.
        image_size: side of pictures from now on; positions are interpolated. Without it, the checkpoint's.
        tokenizer: directory of the text tokenizer; its size becomes the vocabulary. Without it the model has none.
        max_length: longest text in tokens, begin and end tokens included.
        num_codes: vocabulary of the visual tokenizer; the checkpoint's head (lm_head) is taken if it has as many codes.
    """
    arguments = dict(locals())
    _check(out)
    weights = read_state_dict(source)
    words = None if tokenizer is None else Tokenizer.load(tokenizer)
    model = beit_model(weights, beit_config(weights, str(source), _text(words, max_length)), str(source), num_codes)
    _write(model, image_size, out, "import beit2", arguments, None if words is None else words.path.read_bytes())


def timm(
    name: str,
    out: Path,
    source: Path | None = None,
    image_size: int | None = None,
    tokenizer: Path | None = None,
    max_length: int = 64,
    num_codes: int = 8192,
) -> None:
    """Turns a plain ViT, BEiT or BEiT-v2 of timm into a pretraining model: its picture side; texts start at random.

    Args:
        name: the model's name in timm, such as vit_base_patch16_224.augreg_in21k.
        out: directory to write; must not exist.
        source: a .safetensors or .pth file of its weights; without it, timm downloads them.
        image_size: side of pictures from now on; the positions are interpolated. Without it, the model's.
        tokenizer: directory of the text tokenizer; its size becomes the vocabulary. Without it the model has none.
        max_length: longest text in tokens, begin and end tokens included.
        num_codes: vocabulary of the visual tokenizer; its head starts from random weights.
    """
    arguments = dict(locals())
    _check(out)
    try:
        vit = timm_models.create_model(name, pretrained=source is None)
    except (RuntimeError, ValueError, OSError) as error:
        raise ValueError(f"name={name}: timm cannot make this model ({error}); timm.list_models() has all") from error
    weights = vit.state_dict() if source is None else read_state_dict(source)
    words = None if tokenizer is None else Tokenizer.load(tokenizer)
    text, told = _text(words, max_length), str(source or name)
    model: TaskModel
    if isinstance(vit, Beit):
        check_beit(vit, name)
        pixels: Any = vit.pretrained_cfg
        config = beit_config(weights, told, text, pixel_mean=pixels["mean"], pixel_std=pixels["std"])
        model = beit_model(weights, config, told, num_codes)
    else:
        model = vit_model(weights, vit_config(vit, name, text), told, num_codes)
    _write(model, image_size, out, "import timm", arguments, None if words is None else words.path.read_bytes())


def _names(task: Task, path: Path | None) -> Sequence[str]:
    if task == "vqa" and path is not None:
        return read_answers_file(path)
    if task == "imagenet":
        return list(imagenet_classes().values()) if path is None else read_names(path)
    return ()


def _text(words: Tokenizer | None, max_length: int) -> TextConfig:
    vocabulary = TextConfig() if words is None else TextConfig(vocab_size=len(words))
    return replace(vocabulary, max_length=max_length)


def _check(out: Path) -> None:
    if out.exists():
        raise ValueError(f"out={out} exists; choose another --out")


def _write(
    model: TaskModel, image_size: int | None, out: Path, command: str, arguments: dict[str, Any], words: bytes | None
) -> None:
    if image_size is not None:
        model = at_image_size(model, image_size)
    with tempfile.TemporaryDirectory() as folder:
        files = {}
        if words is not None:
            files[TOKENIZER_FILE] = Path(folder) / TOKENIZER_FILE
            files[TOKENIZER_FILE].write_bytes(words)
            Tokenizer.load(files[TOKENIZER_FILE]).check(model.text)
        save(model, out, files=files, run=provenance(command, arguments))
    config = model.config
    kind = describe(model)["kind"]
    size = f"{config.depth} blocks of {config.dim}, {config.num_heads} heads, FFN {config.ffn_dim}"
    count = sum(parameter.numel() for parameter in model.parameters())
    for line in (
        f"{command}: {arguments['source'] or arguments['name']} -> {out}",
        f"  model:     {kind}, {size}{', multiway' if config.multiway else ''}; {count:,} parameters",
        f"  pictures:  {config.vision.image_size} pixels, patches of {config.vision.patch_size}",
        f"  tokenizer: {'there' if words is not None else 'none, so the model is of use for pictures only'}",
    ):
        Console().print(line, highlight=False, soft_wrap=True)
