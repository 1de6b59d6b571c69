"""What every data module shares. A run is one long epoch: the loader's item number s is the batch of step s."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import lightning as L
from torch.utils.data import DataLoader

from mm_mhmoe_data.config import DataConfig, refuse_unused
from mm_mhmoe_data.quarantine import Quarantine
from mm_mhmoe_data.ring import Empty, fresh, step_loader
from mm_mhmoe_data.samples import Picks
from mm_mhmoe_data.sampling import Order, StepOrder, StepSampler
from mm_mhmoe_data.transforms import TrainTransform

_OF_EVERY_STREAM = ("flip", "color_jitter", "interpolation", "max_bad_fraction", "max_bad_in_a_row")


def train_transform(image_size: int, min_scale: float, data: DataConfig) -> TrainTransform:
    return TrainTransform(
        image_size, min_scale=min_scale, flip=data.flip, jitter=data.color_jitter, interpolation=data.interpolation
    )


class StepDataModule(L.LightningDataModule):
    """Serves `make_batch(step)` for every step of a run, from the step on at which a checkpoint was written.

    Args:
        num_steps: batches of the whole run.
        workers: processes that make batches ahead; 0 makes them in the training process.
        quarantine: file for samples that cannot be used; None: they are counted only.
    """

    def __init__(
        self,
        *,
        num_steps: int,
        workers: int = 0,
        seed: int = 0,
        data: DataConfig = DataConfig(),  # noqa: B008  (frozen)
        quarantine: Path | None = None,
    ) -> None:
        super().__init__()
        self.num_steps = num_steps
        self.workers = workers
        self.start = 0
        self.quarantine = Quarantine(
            quarantine, max_bad_fraction=data.max_bad_fraction, max_in_a_row=data.max_bad_in_a_row, seed=seed
        )

    def make_batch(self, step: int, empty: Empty = fresh) -> Any:
        """The batch of a step, its pixels in memory from `empty`."""
        raise NotImplementedError

    def steps(self, order: Order, batch_size: int) -> StepOrder:
        """What each step takes of a stream in this process. batch_size is that of one process."""
        rank, world = self.place()
        return StepOrder(order, batch_size * world, rank=rank, world_size=world)

    def place(self) -> tuple[int, int]:
        """Number of this process, and how many there are."""
        return (self.trainer.global_rank, self.trainer.world_size) if self.trainer else (0, 1)

    def train_dataloader(self) -> DataLoader:
        return step_loader(self.make_batch, StepSampler(self.start, self.num_steps), workers=self.workers)

    def teardown(self, stage: str) -> None:
        # Of a run that was stopped, workers may have been ended amid a sample.
        if stage == "fit" and self.state_dict()["batches"] == self.num_steps:
            self.quarantine.check()
        if stage == "fit" and self.quarantine.quarantined:
            print(f"data: {self.quarantine}; see {self.quarantine.path}")

    def state_dict(self) -> dict[str, int]:
        trainer = self.trainer
        assert trainer is not None
        progress = trainer.fit_loop.epoch_loop.batch_progress.current
        return {"batches": progress.processed}  # type: ignore[attr-defined]

    def load_state_dict(self, state: dict[str, int]) -> None:
        self.start = state["batches"]


class OneStreamDataModule(StepDataModule):
    """Batches of one stream, `batch_size` samples of `order` a step, of which `stream` makes a batch.

    USES: options of `DataConfig` that have an effect, beside those on pictures and on what may be unusable. Others are
        refused: a list of samples to leave out must not be passed over in silence.
    """

    USES: ClassVar[tuple[str, ...]] = ()
    order: Order
    stream: Callable[[Picks, Empty], Any]
    batch_size: int

    def __init__(self, *, data: DataConfig = DataConfig(), **options: Any) -> None:  # noqa: B008  (frozen)
        refuse_unused(data, (*_OF_EVERY_STREAM, *self.USES))
        super().__init__(data=data, **options)

    def setup(self, stage: str) -> None:
        self.picks = self.steps(self.order, self.batch_size)

    def make_batch(self, step: int, empty: Empty = fresh) -> Any:
        return self.stream(self.picks(step), empty)
