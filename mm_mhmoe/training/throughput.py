"""How much of its device a run uses."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import lightning as L
import torch
from torch import nn
from torch.utils.hooks import RemovableHandle

from mm_mhmoe.analysis.cost import step_flops
from mm_mhmoe.batch import ImageTextBatch
from mm_mhmoe.config import EncoderConfig
from mm_mhmoe.models.tasks import PretrainModel, TaskModel

PRODUCT_TYPES = {"32-true": torch.float32, "bf16-mixed": torch.bfloat16, "16-mixed": torch.float16}


@dataclass(frozen=True, kw_only=True)
class RealWork:
    """What one pass of the encoder had to do: rows by their real lengths, padding left out (analysis/workload.py)."""

    rows: tuple[tuple[int, int], ...]
    pictures: int
    patches: int
    words: int
    cls_loss: bool = False

    def streams(self, config: EncoderConfig) -> list[tuple[int, int]]:
        return list(self.rows)

    def hidden_patches(self, config: EncoderConfig) -> int:
        return self.patches

    def hidden_words(self, config: EncoderConfig) -> int:
        return self.words


def real_work(streams: Sequence[ImageTextBatch], config: EncoderConfig, *, cls_loss: bool = False) -> RealWork:
    """Counts what is in streams as they are given to an encoder."""
    rows: Counter[int] = Counter()
    pictures = patches = words = 0
    for stream in streams:
        picture = 0
        if stream.images is not None:
            picture = 1 + config.vision.num_patches
            pictures += len(stream)
            patches += 0 if stream.images.masked_BN is None else int(stream.images.masked_BN.sum())
        if stream.texts is None:
            rows[picture] += len(stream)
            continue
        rows.update(picture + length for length in stream.texts.valid_BL.sum(dim=1).tolist())
        if stream.texts.masked_BL is not None:
            words += int(stream.texts.masked_BL.sum())
        elif stream.causal_text:  # every token but the first is predicted
            words += int(stream.texts.valid_BL[:, 1:].sum())
    found = tuple((count, length) for length, count in rows.items())
    return RealWork(rows=found, pictures=pictures, patches=patches, words=words, cls_loss=cls_loss)


@cache
def measured_peak(device: torch.device, dtype: torch.dtype, threads: int) -> float:
    """FLOPs a second of square matrix products alone, the best of about 0.3 s. Once in a process.

    Args:
        threads: of torch; a CPU's peak depends on them.
    """
    cpu = device.type == "cpu"
    side = 1024 if cpu else 8192
    generator = torch.Generator(device).manual_seed(0)  # the run's own random numbers stay as they are
    a, b = (torch.randn(side, side, device=device, generator=generator).to(dtype) for _ in range(2))
    best, end = float("inf"), time.perf_counter() + 0.3
    while time.perf_counter() < end or best == float("inf"):
        start = time.perf_counter()
        torch.mm(a, b)
        if not cpu:
            torch.accelerator.synchronize(device)
        best = min(best, time.perf_counter() - start)
    return 2 * side**3 / best


class Utilisation(L.Callback):
    """Logs `train/mfu`: FLOPs that the model needed a second over those of matrix products alone on this device.

    Counted are forward and backward products of blocks, patch embedding and, at masked positions, heads
    (analysis/cost.py), for real tokens only, in every pass of the encoder. Recomputation, padding, the visual tokenizer
    and other heads count as nothing. The time is that of whole steps, waiting for data included. It is that of the
    first process. Runs without an encoder log nothing.
    """

    def __init__(self) -> None:
        self._hook: RemovableHandle | None = None
        self._peak = 0.0
        self._flops = 0
        self._step = -1
        self._clock: float | None = None

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        model = pl_module.model
        if not isinstance(model, TaskModel):
            return
        # Lightning's word for it, not the run's: on a CPU it makes bf16 of fp16, which a CPU hardly multiplies in.
        dtype = PRODUCT_TYPES[str(trainer.precision)]
        self._peak = measured_peak(pl_module.device, dtype, torch.get_num_threads())
        cls_loss = bool(getattr(pl_module, "from_cls", False))
        outputs = model.image_outputs if isinstance(model, PretrainModel) else 0

        def count(_: nn.Module, streams: tuple[ImageTextBatch, ...]) -> None:
            if torch.is_grad_enabled():
                work = real_work(streams, model.config, cls_loss=cls_loss)
                self._flops += step_flops(model.config, work, outputs).training

        self._hook = model.encoder.register_forward_pre_hook(count)

    def on_train_batch_start(self, trainer: L.Trainer, *_: Any) -> None:
        self._step = trainer.global_step

    def on_train_batch_end(self, trainer: L.Trainer, pl_module: L.LightningModule, *_: Any) -> None:
        if self._hook is None or trainer.global_step == self._step:
            return
        now = time.monotonic()
        if self._clock is not None:
            share = self._flops / (now - self._clock) / self._peak
            pl_module.log("train/mfu", share, prog_bar=True)
        self._clock, self._flops = now, 0

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if self._hook is not None:
            self._hook.remove()
            self._hook = None

    def on_exception(self, trainer: L.Trainer, pl_module: L.LightningModule, exception: BaseException) -> None:
        self.on_train_end(trainer, pl_module)
