"""Models as directories: model.safetensors, config.json, and the files that a run adds (tokenizer, README).

Nothing here unpickles. A directory is written under a temporary name and renamed when it is whole.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import nn

from mm_mhmoe.config import EncoderConfig
from mm_mhmoe.models.positions import resample_weights
from mm_mhmoe.models.tasks import TASK_MODELS, PretrainModel, TaskModel
from mm_mhmoe.models.tasks.pretrain import described_image_head
from mm_mhmoe.models.visual_tokenizer import VisualTokenizer, VisualTokenizerConfig

FORMAT = 1
WEIGHTS = "model.safetensors"
CONFIG = "config.json"
MODEL_CARD = "README.md"


def save(
    model: nn.Module, directory: Path, *, files: Mapping[str, Path] | None = None, run: Mapping[str, Any] | None = None
) -> None:
    """Writes the model as `directory`; an earlier one of that name is replaced only when the new one is whole.

    Args:
        files: further files to copy in, by their name in the directory (the text tokenizer).
        run: what made the model (command, seed, steps, versions), kept in config.json and the model card.
    """
    directory = Path(directory)
    directory.parent.mkdir(parents=True, exist_ok=True)
    config = {"format": FORMAT, **describe(model), "run": dict(run or {})}
    partial = Path(tempfile.mkdtemp(prefix=f".{directory.name}.", dir=directory.parent))
    try:
        _save_weights(model, partial / WEIGHTS)
        (partial / CONFIG).write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
        (partial / MODEL_CARD).write_text(_card(model, config), encoding="utf-8")
        for name, source in (files or {}).items():
            shutil.copyfile(source, partial / name)
        partial.chmod(0o755)
        replace_directory(partial, directory)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise


def _save_weights(model: nn.Module, path: Path) -> None:
    try:
        save_file({k: v.contiguous() for k, v in model.state_dict().items()}, path)
    except SafetensorError as error:  # a full disk, most often; the library has no OSError for it
        raise OSError(f"{path} cannot be written: {error}") from error


def replace_directory(whole: Path, target: Path) -> None:
    """Renames `whole` to `target`. What stood there is moved aside, and deleted only when the new one is in place."""
    aside = whole.with_name(whole.name + ".old")
    if target.exists():
        os.replace(target, aside)
    try:
        os.replace(whole, target)
    except BaseException:
        if aside.exists():
            os.replace(aside, target)
        raise
    shutil.rmtree(aside, ignore_errors=True)


def describe(model: nn.Module) -> dict[str, Any]:
    """Kind and configuration: all that is needed to build the model again without its weights."""
    if isinstance(model, VisualTokenizer):
        return {"kind": "visual_tokenizer", "tokenizer": model.config.to_dict()}
    if isinstance(model, TaskModel):
        return model.describe()
    name = type(model).__name__
    raise ValueError(f"{name} is not a model that can be saved; wrap its encoder in one of models/tasks")


def build(description: Mapping[str, Any]) -> nn.Module:
    """The inverse of `describe`: the model with fresh weights."""
    kind = description.get("kind")
    try:
        if kind == "visual_tokenizer":
            return VisualTokenizer(VisualTokenizerConfig.from_dict(description["tokenizer"]))
        for model in TASK_MODELS:
            if model.kind == kind:
                return model.from_description(description)
    except KeyError as error:
        raise ValueError(f"{CONFIG} of a {kind} model has no entry {error}; export the model again") from error
    known = ", ".join(["visual_tokenizer", *(model.kind for model in TASK_MODELS)])
    raise ValueError(f"{CONFIG} names kind {kind!r}; known are {known}")


def resolve(source: str | Path) -> Path:
    """The directory of `local-dir:PATH`, a plain path or `hf-hub:OWNER/NAME`. Raises ValueError if it is no model."""
    text = str(source)
    if text.startswith("hf-hub:"):
        from huggingface_hub import snapshot_download

        return Path(
            snapshot_download(
                text.removeprefix("hf-hub:"), allow_patterns=["*.json", "*.safetensors", "*.model", "*.md"]
            )
        )
    if "://" in text:
        raise ValueError(f"{text}: models are read from local-dir:PATH or hf-hub:OWNER/NAME, not from a URL")
    directory = Path(text.removeprefix("local-dir:"))
    for name in (CONFIG, WEIGHTS):
        if not (directory / name).is_file():
            raise ValueError(
                f"{directory} is not a model directory: it has no {name}. A finished run writes one; "
                "a stopped run is turned into one by: mm-mhmoe export --run DIR --out DIR"
            )
    return directory


def read_config(source: str | Path) -> dict[str, Any]:
    """The config.json of a model directory, checked for its format."""
    path = resolve(source) / CONFIG
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} cannot be read: {error}; export the model again") from error
    if not isinstance(config, dict) or config.get("format") != FORMAT:
        found = config.get("format") if isinstance(config, dict) else type(config).__name__
        raise ValueError(f"{path} has format {found}; this version reads format {FORMAT}")
    return config


def load(source: str | Path) -> nn.Module:
    """The model of a directory, in evaluation mode on the CPU.

    Args:
        source: `local-dir:PATH`, a plain path, or `hf-hub:OWNER/NAME`.

    Raises:
        ValueError: the directory is no model, is damaged, or its weights do not fit its configuration.
    """
    directory = resolve(source)
    model = build(read_config(directory))
    load_weights(model, read_weights(directory), directory)
    return model.eval()


def load_weights(model: nn.Module, weights: Mapping[str, torch.Tensor], source: str | Path) -> None:
    """Raises ValueError, with the first names that are missing, left over or of another shape, if they do not fit."""
    ours = model.state_dict()
    wrong = [f"{name} is missing" for name in ours.keys() - weights.keys()]
    wrong += [f"{name} is left over" for name in weights.keys() - ours.keys()]
    wrong += [
        f"{name} has shape {tuple(weights[name].shape)} instead of {tuple(ours[name].shape)}"
        for name in ours.keys() & weights.keys()
        if weights[name].shape != ours[name].shape
    ]
    if wrong:
        more = f" and {len(wrong) - 3} more" if len(wrong) > 3 else ""
        raise ValueError(f"the weights of {source} do not fit its {CONFIG}: {'; '.join(sorted(wrong)[:3])}{more}")
    model.load_state_dict(weights)


def read_weights(source: str | Path) -> dict[str, torch.Tensor]:
    path = resolve(source) / WEIGHTS
    try:
        return load_file(path)
    except (OSError, SafetensorError) as error:
        raise ValueError(f"{path} is damaged ({error}); export the model again") from error


def fingerprint(source: str | Path) -> str:
    """16 hexadecimal digits that stand for a model's configuration and weights, whatever made it, wherever it lies."""
    described = {k: v for k, v in read_config(source).items() if k != "run"}
    digest = hashlib.sha256(json.dumps(described, sort_keys=True).encode())
    with (resolve(source) / WEIGHTS).open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()[:16]


def read_encoder_config(source: str | Path) -> EncoderConfig:
    """The configuration of a model's encoder. Raises ValueError for a model that has none."""
    config = read_config(source)
    if "encoder" not in config:
        raise ValueError(f"{source} is a {config.get('kind')} model and has no encoder to start from")
    return EncoderConfig.from_dict(config["encoder"])


def load_encoder(source: str | Path, into: TaskModel) -> None:
    """Copies the encoder's weights of another model; heads stay as they are. Under another size of pictures, the
    positions of patches are interpolated.

    Raises:
        ValueError: the two encoders' configurations differ; names the fields and both values.
    """
    theirs = read_encoder_config(source)
    free = _FREE_FIELDS
    if theirs.text.num_positions == into.text.num_positions:  # then a text's longest length is no matter of weights
        free = free | {"text.max_length", "text.positions"}
    differing = _differences(theirs.to_dict(), into.config.to_dict())
    differing = {k: v for k, v in differing.items() if k not in free}
    if differing:
        told = "; ".join(f"{name}: checkpoint {a}, this run {b}" for name, (a, b) in differing.items())
        raise ValueError(f"the encoder of {source} does not fit this run: {told}. Use the checkpoint's values")
    prefix = "encoder."
    weights = {k.removeprefix(prefix): v for k, v in read_weights(source).items() if k.startswith(prefix)}
    load_weights(into.encoder, resample_weights(weights, theirs.vision.grid, into.vision.grid), source)


def load_init(source: str | Path, into: TaskModel) -> None:
    """As `load_encoder`; heads that mean the same in both models are taken too (`TaskModel.shared_heads`)."""
    load_encoder(source, into)
    described = {k: v for k, v in read_config(source).items() if k not in ("format", "run")}
    shared, theirs = into.shared_heads(described), read_weights(source)
    heads = {
        ours + name.removeprefix(begin): value
        for begin, ours in shared.items()
        for name, value in theirs.items()
        if name.startswith(begin)
    }
    load_weights(into, {**into.state_dict(), **heads}, source)


def load_pretrained(source: str | Path, into: PretrainModel) -> None:
    """As `load_encoder`; the heads are taken too if the source is a pretraining model whose image head means the same:
    as many codes of the same visual tokenizer, pixels, or features of the same teacher. Those of the contrastive and
    matching losses need embeddings as wide, too.
    """
    load_encoder(source, into)
    config = read_config(source)
    if config["kind"] != "pretrain":
        return
    outputs, target = described_image_head(config)
    if outputs == into.image_outputs and target.means(into.image_target):
        own: tuple[str, ...] = ("encoder.",)
        if config.get("embed_dim") != into.embed_dim:
            own += ("contrastive_head.", "match_head.")
        kept = {k: v for k, v in into.state_dict().items() if k.startswith(own)}
        heads = {k: v for k, v in read_weights(source).items() if not k.startswith(own)}
        load_weights(into, heads | kept, source)


def at_image_size(model: TaskModel, image_size: int) -> TaskModel:
    """The same model for pictures of another size, with interpolated positions. Raises ValueError when
    patches do not divide it."""
    config = replace(model.config, vision=replace(model.vision, image_size=image_size))
    made = build({**describe(model), "encoder": config.to_dict()})
    assert isinstance(made, TaskModel)
    made.load_state_dict(resample_weights(model.state_dict(), model.vision.grid, config.vision.grid))
    return made.eval()


# What changes training, or what is brought into another form, but no weight's meaning.
_FREE_FIELDS = {"drop_path", "layer_scale", "moe.balance_loss_weight", "moe.z_loss_weight", "vision.image_size"}


def _differences(a: Mapping[str, Any], b: Mapping[str, Any], prefix: str = "") -> dict[str, tuple[Any, Any]]:
    found: dict[str, tuple[Any, Any]] = {}
    for name in a:
        if isinstance(a[name], Mapping):
            found |= _differences(a[name], b[name], f"{prefix}{name}.")
        elif a[name] != b[name]:
            found[prefix + name] = (a[name], b[name])
    return found


def _card(model: nn.Module, config: Mapping[str, Any]) -> str:
    count = sum(p.numel() for p in model.parameters())
    lines = [
        "---",
        "library_name: mm-mhmoe",
        "license: apache-2.0",
        "---",
        f"# A {config['kind'].replace('_', ' ')} model of mm-mhmoe",
        "",
        f'{count:,} parameters. Load it with `mm_mhmoe.models.load("local-dir:PATH")`.',
        "",
        "## How it was made",
        "",
        "```json",
        json.dumps(config["run"], indent=2),
        "```",
    ]
    return "\n".join(lines) + "\n"
