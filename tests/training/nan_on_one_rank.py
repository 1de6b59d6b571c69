"""Two processes, which Lightning starts: FOLDER. The second one's last loss is not finite; each writes RANK.pt."""

import sys
from pathlib import Path

import torch
from mm_mhmoe_data.datamodules import StepDataModule

from mm_mhmoe.batch import Images, ImageTextBatch, Texts
from mm_mhmoe.config import EncoderConfig, MoEConfig, TextConfig, VisionConfig
from mm_mhmoe.models.tasks import RetrievalModel
from mm_mhmoe.training.modules import RetrievalModule, StepResult
from mm_mhmoe.training.optim import OptimConfig
from mm_mhmoe.training.trainer import RunConfig, fit

STEPS = 4
CONFIG = EncoderConfig(
    dim=16,
    depth=2,
    num_heads=2,
    ffn_dim=32,
    vision=VisionConfig(image_size=8, patch_size=4),
    text=TextConfig(vocab_size=20, max_length=4),
    moe=MoEConfig(num_experts=4, heads=4, router="sigmoid_bias", balance_loss_weight=0.0),
)


class Pairs(StepDataModule):
    def make_batch(self, step: int, empty: object = None) -> ImageTextBatch:
        rank, _ = self.place()
        generator = torch.Generator().manual_seed(2 * step + rank)
        pixels = torch.rand(4, 3, 8, 8, generator=generator)
        ids = torch.randint(5, 20, (4, 4), generator=generator)
        return ImageTextBatch(
            images=Images(pixels_BCHW=pixels),
            texts=Texts(ids_BL=ids, valid_BL=torch.ones(4, 4, dtype=torch.bool)),
            keys=(f"rank {rank}",),
        )


class Module(RetrievalModule):
    def training_step(self, batch: ImageTextBatch, batch_idx: int) -> StepResult:
        result = super().training_step(batch, batch_idx)
        spoilt = self.global_rank == 1 and batch_idx == STEPS - 1
        return {**result, "loss": result["loss"] * float("nan")} if spoilt else result


def main(folder: Path) -> None:
    torch.manual_seed(0)
    optim = OptimConfig(lr=1e-2, warmup_steps=1, ema_decay=0.5)
    module = Module(RetrievalModel(CONFIG, 4), optim, steps=STEPS)
    run = RunConfig(accelerator="cpu", devices=2, precision="32-true", checkpoint_every=1, log_every=1)
    trainer = fit(module, Pairs(num_steps=STEPS), title="two", steps=STEPS, out=folder / "run", run=run, optim=optim)
    torch.save(module.state_dict(), folder / f"{trainer.global_rank}.pt")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
