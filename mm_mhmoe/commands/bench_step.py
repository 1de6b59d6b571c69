from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Literal

import torch
import torch.nn.functional as F
from mm_mhmoe_eval.files import write_text_atomic
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn

from mm_mhmoe.analysis.step_bench import (
    PlainEncoder,
    contestants,
    random_batch,
    run_products,
    split_states,
    step_products,
)
from mm_mhmoe.analysis.timing import interleave, peak_bytes, saved_bytes
from mm_mhmoe.analysis.torchscale_beit3 import TorchscaleEncoder
from mm_mhmoe.analysis.workload import Workload
from mm_mhmoe.batch import ImageTextBatch
from mm_mhmoe.config import EncoderConfig
from mm_mhmoe.models.encoder import StreamStates
from mm_mhmoe.models.tasks import PretrainModel
from mm_mhmoe.objectives.masked import STREAMS, masked_losses
from mm_mhmoe.objectives.picture_targets import CodeTarget
from mm_mhmoe.objectives.sparse import auxiliary_losses, weighted_auxiliary
from mm_mhmoe.process import switches

Part = Literal["encoder", "step"]
Stream = Literal["images", "texts", "pairs"]
Dtype = Literal["fp32", "bf16", "bf16_mixed"]
LIMIT = "LIMIT: the products alone"
_PRODUCTS = {"fp32": torch.float32, "bf16": torch.bfloat16, "bf16_mixed": torch.bfloat16}


def step(
    encoder: EncoderConfig | None = None,
    parts: list[Part] | None = None,
    dtypes: list[Dtype] | None = None,
    batch: int = 4,
    streams: list[Stream] | None = None,
    num_codes: int = 8192,
    torchscale: Path | None = None,
    samples: int = 5,
    busy_cores: float = 0.25,
    threads: int = 0,
    cpu_time: bool = False,
    out: Path | None = None,
) -> None:
    """Times the forward and backward pass of masked pretraining against what else there is, in turns in one process.

    Every number is the time of LIMIT (the dense encoder's matrix products and nothing else, attention's too, and those
    of heads at masked positions) over the time of the step: 1 is as fast as this processor multiplies. Optimizer and
    visual tokenizer are not part of it, nor is stochastic depth. Kept: what autograd keeps for the backward pass,
    parameters not counted. Peak: the most that the tensors of a step take at once, gradients of parameters too.

    Args:
        encoder: the dense one; default: base size. Its `moe.every` says which layers are sparse in the sparse ones.
        parts: encoder: the encoder alone. step: with heads and losses, at masked positions or everywhere. Default:
            both.
        dtypes: fp32; bf16: weights and activations; bf16_mixed: fp32 weights under autocast. Default: fp32 and bf16.
        batch: rows of each stream.
        streams: images, texts, pairs. Default: pairs, which are one row of picture and text.
        num_codes: visual vocabulary.
        torchscale: a folder made by `pip install --target FOLDER --no-deps torchscale==0.3.0`: its BEiT3 is timed too.
        samples: of each contestant.
        busy_cores: samples during which other processes used more cores than this do not count.
        threads: of the products; 0: torch's own choice.
        cpu_time: counts the seconds that this process computes, not those that pass, so that a busy machine does less
            harm; every sample counts. Only with threads=1, because threads that wait for each other compute.
        out: a JSON file to write.
    """
    if samples < 1 or batch < 1:
        raise ValueError(f"samples={samples} and batch={batch} must be 1 or more")
    if cpu_time and threads != 1:
        raise ValueError(f"cpu_time=true counts threads that wait for each other, too; use threads=1, not {threads}")
    if threads:
        torch.set_num_threads(threads)
    config = contestants(encoder or EncoderConfig())["dense"]
    work = Workload(**{f"batch_{name}": batch for name in streams or ["pairs"]})  # type: ignore[arg-type]
    console = Console()
    console.print(f"torch {torch.__version__}, {torch.get_num_threads()} threads; {switches()}", highlight=False)
    if torchscale is None:
        console.print("torchscale's BEiT3 is left out: see --torchscale", highlight=False)
    records = []
    for part in parts or ("encoder", "step"):
        for dtype in dtypes or ("fp32", "bf16"):
            with console.status(f"{part}, {dtype}"):
                # Bound to no name: the models of one round would still be there when those of the next are made.
                rows = StepBench(config, work, num_codes, part, dtype, torchscale).measure(
                    samples, math.inf if cpu_time else busy_cores, cpu_time=cpu_time
                )
            records.append({"part": part, "dtype": dtype, "rows": rows})
            console.print(_table(f"{part}, {dtype}{', CPU time' if cpu_time else ''}", rows))
    if out is not None:
        facts = {"torch": torch.__version__, "threads": torch.get_num_threads(), "switches": switches()}
        facts["seconds"] = "of this process" if cpu_time else "that passed"
        size = {"encoder": config.to_dict(), "batch": batch, "streams": streams or ["pairs"], "num_codes": num_codes}
        write_text_atomic(out, json.dumps({**facts, **size, "results": records}, indent=1) + "\n")


class StepBench:
    """The contestants of one dtype, with the batch that all of them get."""

    def __init__(
        self, config: EncoderConfig, work: Workload, num_codes: int, part: Part, dtype: Dtype, torchscale: Path | None
    ) -> None:
        torch.manual_seed(0)
        self.config, self.work, self.num_codes = config, work, num_codes
        self.part, self.dtype = part, dtype
        self.batch = random_batch(config, work)
        self.streams = [stream for name in STREAMS if (stream := getattr(self.batch, name)) is not None]
        self.codes_BN = torch.randint(num_codes, (max(map(len, self.streams)), config.vision.num_patches))
        self.ours = {name: self._ready(PretrainModel(c, num_codes)) for name, c in contestants(config).items()}
        others: dict[str, nn.Module] = {}
        if part == "encoder":
            others["plain SDPA"] = PlainEncoder(self.ours["dense"].encoder, config)
        if torchscale is not None:
            others["torchscale BEiT3"] = TorchscaleEncoder(config, torchscale)
        self.others = {name: self._ready(model) for name, model in others.items()}

    def _ready(self, model: Any) -> Any:
        return model.train().to(torch.bfloat16 if self.dtype == "bf16" else torch.float32)

    def measure(self, samples: int, busy_cores: float, *, cpu_time: bool = False) -> dict[str, dict[str, Any]]:
        products = step_products(self.config, self.work, self.num_codes, heads=self.part == "step")
        calls = self.encoders() if self.part == "encoder" else self.steps()
        forwards = {name: partial(self._forward, call) for name, (call, _) in calls.items()}
        whole = {name: partial(_train, forwards[name], modules) for name, (_, modules) in calls.items()}
        limit = run_products(products, _PRODUCTS[self.dtype])
        clock = time.process_time if cpu_time else time.perf_counter
        timings = interleave({LIMIT: limit} | whole, samples=samples, busy_cores=busy_cores, clock=clock)
        rows = {name: timing.against(timings[LIMIT]) for name, timing in timings.items()}
        for name, (_, modules) in calls.items():
            rows[name]["kept_mb"] = saved_bytes(forwards[name], _parameters(modules)) / 1e6
            rows[name]["peak_mb"] = peak_bytes(whole[name]) / 1e6
        return rows

    def _forward(self, call: Callable[[], Tensor]) -> Tensor:
        with torch.autocast("cpu", torch.bfloat16, enabled=self.dtype == "bf16_mixed"):
            return call()

    def encoders(self) -> dict[str, tuple[Callable[[], Tensor], list[nn.Module]]]:
        """For each encoder a sum over its states, and its modules."""

        def ours(model: PretrainModel) -> Tensor:
            return _sum(model.encoder(*self.streams).streams)

        def other(model: nn.Module) -> Tensor:
            return _sum(split_states(model(stream), stream, self.config) for stream in self.streams)

        found: dict[str, tuple[Callable[[], Tensor], list[nn.Module]]] = {}
        for name, model in self.ours.items():
            found[name] = (partial(ours, model), [model.encoder])
        for name, model in self.others.items():
            found[name] = (partial(other, model), [model])
        return found

    def steps(self) -> dict[str, tuple[Callable[[], Tensor], list[nn.Module]]]:
        """For each encoder the loss of a step, and its modules."""

        target = CodeTarget(SimpleNamespace(codes=lambda pixels: self.codes_BN[: len(pixels)]))

        def ours(model: PretrainModel) -> Tensor:
            losses, output = masked_losses(model, target, self.batch)
            total = torch.stack([part.loss for part in losses.values()]).sum()
            return total + weighted_auxiliary(auxiliary_losses(output.routing, model.config.moe), model.config.moe)

        def everywhere(states: Callable[[ImageTextBatch], StreamStates], heads: PretrainModel) -> Tensor:
            return sum(full_losses(heads, states(stream), stream, self.codes_BN) for stream in self.streams)  # type: ignore[return-value,misc]

        dense = self.ours["dense"]
        found: dict[str, tuple[Callable[[], Tensor], list[nn.Module]]] = {}
        for name, model in self.ours.items():
            found[name] = (partial(ours, model), [model])
        own = partial(everywhere, lambda stream: dense.encoder(stream).streams[0], dense)
        found["dense, heads everywhere"] = (own, [dense])
        for name, model in self.others.items():
            states = partial(_states_of, model, self.config)
            found[f"{name}, heads everywhere"] = (
                partial(everywhere, states, dense),
                [model, dense.image_head, dense.text_head],
            )
        return found


def full_losses(heads: PretrainModel, states: StreamStates, stream: ImageTextBatch, codes_BN: Tensor) -> Tensor:
    """The masked losses of a stream from the logits of all positions, which our own step never makes."""
    total = torch.zeros(())
    if states.image_BND is not None and stream.images is not None:
        targets_BN = codes_BN[: len(stream)].where(stream.images.masked_BN, -100)  # type: ignore[arg-type]
        total = total + _full_loss(heads.image_head(states.image_BND[:, 1:]), targets_BN)
    if states.text_BLD is not None and stream.texts is not None:
        targets_BL = stream.texts.ids_BL.where(stream.texts.masked_BL, -100)  # type: ignore[arg-type]
        total = total + _full_loss(heads.text_head(states.text_BLD), targets_BL)
    return total


def _full_loss(logits_BLV: Tensor, targets_BL: Tensor) -> Tensor:
    return F.cross_entropy(logits_BLV.float().flatten(0, 1), targets_BL.flatten())


def _states_of(model: nn.Module, config: EncoderConfig, stream: ImageTextBatch) -> StreamStates:
    return split_states(model(stream), stream, config)


def _sum(streams: Iterable[StreamStates]) -> Tensor:
    parts = [part for states in streams for part in states if part is not None]
    return torch.stack([part.float().square().mean() for part in parts]).sum()


def _parameters(modules: list[nn.Module]) -> list[nn.Parameter]:
    return [p for module in modules for p in module.parameters()]


def _train(forward: Callable[[], Tensor], modules: list[nn.Module]) -> None:
    forward().backward()
    for parameter in _parameters(modules):
        parameter.grad = None


def _table(title: str, rows: dict[str, dict[str, Any]]) -> Table:
    table = Table(title=f"{title}: share of LIMIT (larger is faster)", title_justify="left")
    table.add_column("")
    for name in ("forward + backward", "range", "ms", "kept MB", "peak MB"):
        table.add_column(name, justify="right")
    for name, row in rows.items():
        cells = [f"{row['of_limit']:.2f}", f"{row['range']:.0%}", f"{row['milliseconds']:.0f}"]
        cells = cells if row["samples"] else ["busy", "", ""]
        cells += [f"{row[key]:.0f}" if key in row else "" for key in ("kept_mb", "peak_mb")]
        table.add_row(name, *cells)
    return table
