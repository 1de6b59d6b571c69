"""How much of its device a run uses."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, NamedTuple

import lightning as L
import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from mm_mhmoe.analysis.cost import step_flops
from mm_mhmoe.batch import ImageTextBatch
from mm_mhmoe.config import EncoderConfig
from mm_mhmoe.models.tasks import PretrainModel, TaskModel

PRODUCT_TYPES = {"32-true": torch.float32, "bf16-mixed": torch.bfloat16, "16-mixed": torch.float16}


class Outline(NamedTuple):
    """What of a stream decides its cost; tensors stay on the device until they are read.

    picture: whether the rows have one.
    length_B: real tokens of each text; None: there are no texts.
    patches, words: how many are hidden.
    """

    rows: int
    picture: bool
    length_B: Tensor | None
    patches: Tensor | int
    words: Tensor | int
    causal: bool


def outline(stream: ImageTextBatch) -> Outline:
    """Waits for nothing."""
    images, texts = stream.images, stream.texts
    return Outline(
        len(stream),
        images is not None,
        None if texts is None else texts.valid_BL.sum(dim=1),
        0 if images is None or images.masked_BN is None else images.masked_BN.sum(),
        0 if texts is None or texts.masked_BL is None else texts.masked_BL.sum(),
        stream.causal_text,
    )


@dataclass(frozen=True, kw_only=True)
class RealWork:
    """What one pass of the encoder had to do: rows by their real lengths, padding left out (analysis/workload.py)."""

    rows: tuple[tuple[int, int], ...]
    pictures: int
    patches: int
    words: int
    captions: int
    cls_loss: bool = False
    embed_dim = compared = matched = 0  # heads of whole rows: not counted

    def streams(self, config: EncoderConfig) -> list[tuple[int, int]]:
        return list(self.rows)

    def hidden_patches(self, config: EncoderConfig) -> int:
        return self.patches

    def hidden_words(self, config: EncoderConfig) -> int:
        return self.words

    def next_words(self, config: EncoderConfig) -> int:
        return self.captions


def real_work(streams: Sequence[Outline], config: EncoderConfig, *, cls_loss: bool = False) -> RealWork:
    """Counts what was in the streams of one pass. Reading that waits for the device."""
    rows: Counter[int] = Counter()
    captions = 0
    for stream in streams:
        picture = 1 + config.vision.num_patches if stream.picture else 0
        if stream.length_B is None:
            rows[picture] += stream.rows
            continue
        lengths = stream.length_B.tolist()
        rows.update(picture + length for length in lengths)
        captions += sum(lengths) - len(lengths) if stream.causal else 0
    return RealWork(
        rows=tuple((count, length) for length, count in rows.items()),
        pictures=sum(stream.rows for stream in streams if stream.picture),
        patches=sum(int(stream.patches) for stream in streams),
        words=sum(int(stream.words) for stream in streams),
        captions=captions,
        cls_loss=cls_loss,
    )


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

    Counted are forward and backward products of blocks, patch embedding and, at masked positions and those of captions,
    heads (analysis/cost.py), for real tokens only, in every pass of the encoder. Recomputation, padding, the visual
    tokenizer and other heads count as nothing. The time is that of whole steps, waiting for data included. Both
    are sums over the steps since the last row of the log, at which alone this waits for the device. It is that of
    the first process. Runs without an encoder log nothing.

    Args:
        every: steps between two rows of the log.
    """

    def __init__(self, *, every: int) -> None:
        self.every = every
        self._hook: RemovableHandle | None = None
        self._peak = 0.0
        self._passes: list[list[Outline]] = []
        self._step = -1
        self._clock: float | None = None

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        model = pl_module.model
        if not isinstance(model, TaskModel):
            return
        dtype = PRODUCT_TYPES[str(trainer.precision)]
        self._peak = measured_peak(pl_module.device, dtype, torch.get_num_threads())

        def note(_: nn.Module, streams: tuple[ImageTextBatch, ...]) -> None:
            if torch.is_grad_enabled():
                self._passes.append([outline(stream) for stream in streams])

        self._hook = model.encoder.register_forward_pre_hook(note)

    def on_train_batch_start(self, trainer: L.Trainer, *_: Any) -> None:
        self._step = trainer.global_step

    def on_train_batch_end(self, trainer: L.Trainer, pl_module: L.LightningModule, *_: Any) -> None:
        if self._hook is None or trainer.global_step == self._step:
            return
        if self._clock is not None:
            if trainer.global_step % self.every:
                return
            share = self._flops(pl_module) / (time.monotonic() - self._clock) / self._peak
            pl_module.log("train/mfu", share, prog_bar=True)
        self._clock, self._passes = time.monotonic(), []

    def _flops(self, pl_module: L.LightningModule) -> int:
        model, cls_loss = pl_module.model, bool(getattr(pl_module, "from_cls", False))
        assert isinstance(model, TaskModel)
        outputs = model.image_outputs if isinstance(model, PretrainModel) else 0
        works = [real_work(streams, model.config, cls_loss=cls_loss) for streams in self._passes]
        return sum(step_flops(model.config, work, outputs).training for work in works)

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if self._hook is not None:
            self._hook.remove()
            self._hook = None

    def on_exception(self, trainer: L.Trainer, pl_module: L.LightningModule, exception: BaseException) -> None:
        self.on_train_end(trainer, pl_module)
