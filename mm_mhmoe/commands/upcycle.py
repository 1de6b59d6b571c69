from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

from mm_mhmoe_data.tokenizer import TOKENIZER_FILE
from rich.console import Console

from mm_mhmoe.commands.probe import expert_counts, ffn_inputs, probe_streams
from mm_mhmoe.commands.run_dir import provenance
from mm_mhmoe.config import EncoderConfig, MoEConfig
from mm_mhmoe.models.checkpoints import build, describe, load, load_weights, read_config, resolve, save
from mm_mhmoe.models.tasks import TaskModel
from mm_mhmoe.models.upcycling import preserves_function, resize, to_dense, to_sparse
from mm_mhmoe.models.upcycling.layers import Weights


def sparse(
    model: str,
    out: Path,
    ffn: Literal["moe", "mh_moe"] = "moe",
    moe: MoEConfig = MoEConfig(),  # noqa: B008  (frozen)
    noise: float = 0.0,
    seed: int = 0,
    shards: str | None = None,
    pairs: int = 128,
) -> None:
    """Gives a trained dense model experts made of its FFNs; heads and all else stay. Train it on with --init.

    With ffn=moe every expert is a copy of the dense FFN, and with top_k of 2 or more the model still computes the same.
    With ffn=mh_moe and several heads it cannot, but stays near the dense model (docs/UPCYCLING.md has numbers).

    Args:
        model: the dense model: local-dir:PATH, a plain path, or hf-hub:OWNER/NAME.
        out: directory to write; must not exist.
        ffn: moe: experts on tokens; mh_moe: on sub-tokens.
        moe: the experts. With ffn=moe, or one head, they are as wide as the dense FFN: hidden_dim need not be given.
        noise: deviation of noise on each expert's matrices, in units of the matrix's own (for example 0.01).
        seed: of the new routers and of the noise.
        shards: for ffn=mh_moe: pairs that it is fitted on (shards or demo:train); without it, random inputs.
        pairs: how many of them.
    """
    arguments = dict(locals())
    source = _open(model, out)
    config = source.config
    if moe.parity != "none" and (ffn == "moe" or moe.heads == 1):
        moe = replace(moe, parity="none", hidden_dim=config.ffn_dim)
    target = replace(config, ffn=ffn, moe=moe)
    inputs = None
    if shards is not None and config.ffn == "dense":
        if ffn != "mh_moe" or moe.heads == 1:
            raise ValueError(f"shards={shards}: copies need no data; leave it out, or use ffn=mh_moe and moe.heads > 1")
        inputs = ffn_inputs(source, probe_streams(source, resolve(model), shards, pairs=pairs, seed=seed))
    changed = to_sparse(config, source.state_dict(), target, noise=noise, seed=seed, inputs=inputs)
    _write(source, changed, "upcycle sparse", arguments, function=_function(target, noise))


def resized(
    model: str,
    out: Path,
    num_experts: int,
    top_k: int | None = None,
    noise: float = 0.0,
    router_noise: float = 0.0,
    seed: int = 0,
    shards: str | None = None,
    pairs: int = 128,
) -> None:
    """Gives a trained moe or mh_moe model more or fewer experts; heads and all else stay. Train it on with --init.

    More experts are clones. Twice as many with twice the top_k compute the same as before where weights are normalised
    (top_k of 2 or more), and cost more; with the old top_k, give --router_noise or clones are chosen together.

    Args:
        model: the sparse model: local-dir:PATH, a plain path, or hf-hub:OWNER/NAME.
        out: directory to write; must not exist.
        num_experts: experts of a layer from now on.
        top_k: experts of a (sub-)token from now on; without it, as before.
        noise: deviation of noise on each expert's matrices, in units of the matrix's own (for example 0.01).
        router_noise: the same for the router's row of each expert.
        seed: of both.
        shards: for fewer experts: pairs on which use is counted (shards or demo:train), and the most used ones stay;
            without it, the first ones.
        pairs: how many of them.
    """
    arguments = dict(locals())
    source = _open(model, out)
    counts = None
    if shards is not None and source.config.ffn != "dense":
        if num_experts >= source.config.moe.num_experts:
            raise ValueError(f"shards={shards}: use is counted to choose among experts; leave it out for more experts")
        counts = expert_counts(source, probe_streams(source, resolve(model), shards, pairs=pairs, seed=seed))
    options: dict[str, Any] = {"top_k": top_k, "noise": noise, "router_noise": router_noise, "seed": seed}
    changed = resize(source.config, source.state_dict(), num_experts, counts=counts, **options)
    _write(source, changed, "upcycle resize", arguments)


def dense(model: str, out: Path, expert: int | None = None) -> None:
    """Puts one dense FFN in place of each layer's experts, to look at or to compare with; heads and all else stay.

    Args:
        model: a moe model, or mh_moe with one head: local-dir:PATH, a plain path, or hf-hub:OWNER/NAME.
        out: directory to write; must not exist.
        expert: number of the expert to take, from 0; without it, the mean of all.
    """
    arguments = dict(locals())
    source = _open(model, out)
    _write(source, to_dense(source.config, source.state_dict(), expert=expert), "upcycle dense", arguments)


def _open(model: str, out: Path) -> TaskModel:
    if out.exists():
        raise ValueError(f"out={out} exists; choose another --out")
    found = load(model)
    if not isinstance(found, TaskModel):
        raise ValueError(f"model={model} is a visual tokenizer and has no experts; name a pretrained or fine-tuned one")
    return found


def _write(
    source: TaskModel,
    changed: tuple[EncoderConfig, Weights],
    command: str,
    arguments: dict[str, Any],
    *,
    function: str = "",
) -> None:
    config, weights = changed
    directory = resolve(arguments["model"])
    made = build({**describe(source), "encoder": config.to_dict()})
    load_weights(made, weights, directory)
    words = directory / TOKENIZER_FILE
    record = provenance(command, arguments, source=read_config(directory)["run"])
    save(made, arguments["out"], run=record, files={TOKENIZER_FILE: words} if words.is_file() else {})
    before, after = (sum(p.numel() for p in m.parameters()) for m in (source, made))
    for line in (
        f"{command}: {arguments['model']} -> {arguments['out']}",
        f"  FFNs:       {_ffns(source.config)} -> {_ffns(config)}",
        f"  parameters: {before:,} -> {after:,}",
        *([f"  function:   {function}"] if function else []),
    ):
        Console().print(line, highlight=False, soft_wrap=True)


def _function(target: EncoderConfig, noise: float) -> str:
    """What becomes of a dense model's function."""
    if target.ffn == "mh_moe" and target.moe.heads > 1:
        return "changed, since an expert sees a part of a token only; docs/UPCYCLING.md tells how much"
    if not preserves_function(target):
        return "changed, since a token's weights need not sum to one; --moe.shared_experts 1 keeps it"
    return "changed by the noise" if noise else "as before"


def _ffns(config: EncoderConfig) -> str:
    if config.ffn == "dense":
        return f"dense, {config.ffn_dim} wide"
    moe = config.moe
    heads = f"{moe.heads} head{'s' * (moe.heads > 1)}, " if config.ffn == "mh_moe" else ""
    return f"{config.ffn}, {heads}top-{moe.top_k} of {moe.num_experts} experts, {config.expert_hidden_dim} wide"
