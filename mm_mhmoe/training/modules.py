"""Lightning modules: each wires a model, an objective and an optimiser. No maths here."""

from __future__ import annotations

import json
import time
from typing import Any, TypedDict

import lightning as L
import torch
import torch.distributed as dist
from torch import Tensor, nn

from mm_mhmoe.batch import ImageTextBatch, PretrainBatch, VQABatch
from mm_mhmoe.models.checkpoints import describe
from mm_mhmoe.models.encoder import Encoder, EncoderOutput
from mm_mhmoe.models.tasks import PretrainModel, RetrievalModel, TaskModel, VQAModel
from mm_mhmoe.models.teachers import Teacher
from mm_mhmoe.models.vector_quantizer import perplexity
from mm_mhmoe.models.visual_tokenizer import VisualTokenizer
from mm_mhmoe.nn import SigmoidRouter, expert_load
from mm_mhmoe.objectives.contrastive import info_nce
from mm_mhmoe.objectives.masked import MaskedLoss, masked_losses
from mm_mhmoe.objectives.sparse import auxiliary_losses, weighted_auxiliary
from mm_mhmoe.objectives.vqa import soft_target_bce
from mm_mhmoe.training.optim import OptimConfig, build_optimizer


class StepResult(TypedDict):
    """What a training step gives to Lightning, which hands it on to callbacks.

    loss:   to be minimised.
    output: the encoder's, without states and out of the graph: DDP looks for parameters behind every tensor here.
    """

    loss: Tensor
    output: EncoderOutput


class RunModule(L.LightningModule):
    """What every run shares: the optimiser, and the log of speed and expert load."""

    model: nn.Module

    def __init__(self, optim: OptimConfig, *, steps: int, depth: int) -> None:
        super().__init__()
        self.optim_config = optim
        self.steps = steps
        self.depth = depth
        self._clock: float | None = None

    def configure_optimizers(self) -> Any:
        return build_optimizer(self, self.optim_config, steps=self.steps, depth=self.depth)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        checkpoint["model_description"] = json.dumps(describe(self.model))

    def log_step(self, values: dict[str, Any], *, shown: tuple[str, ...], tokens: int) -> None:
        """Logs `train/...` values; `shown` ones also in the progress bar, with tokens per second."""
        now = time.monotonic()
        for name, value in values.items():
            self.log(f"train/{name}", value, prog_bar=name in shown)
        if self._clock is not None:
            self.log("train/tokens_per_s", tokens / (now - self._clock), prog_bar=True)
        self._clock = now


def sparse_metrics(output: EncoderOutput) -> dict[str, Tensor]:
    """Largest share of an expert over the uniform share, averaged over layers: 1 is perfect balance."""
    if not output.routing:
        return {}
    pools = [pool for layer in output.routing for pool in layer.routing.each_pool]
    loads = torch.stack([expert_load(pool).max() * pool.num_experts for pool in pools])
    return {"expert_load": loads.mean()}


def update_router_biases(encoder: Encoder, output: EncoderOutput) -> None:
    """Lets the routers that balance by a bias take a step towards even loads, the same on every rank."""
    for layer, routing in output.routing:
        for module in encoder.blocks[layer].modules():
            if isinstance(module, SigmoidRouter):
                module.update_bias(routing, _sum_over_ranks)


class VisualTokenizerModule(RunModule):
    """Trains the visual tokenizer; the codebook follows by moving averages, not by gradient.

    Args:
        teacher: gives the targets. It is frozen and kept out of checkpoints, which name it only.
        codebook_start: the batch that k-means starts the codebook on. Before it the vectors pass unquantised: at random
            weights they all point one way, and a codebook started there stays collapsed.
    """

    model: VisualTokenizer

    def __init__(
        self, model: VisualTokenizer, teacher: Teacher, optim: OptimConfig, *, steps: int, codebook_start: int = 0
    ) -> None:
        super().__init__(optim, steps=steps, depth=model.config.encoder_depth)
        self.model = model
        self.codebook_start = codebook_start
        self._teacher = (teacher,)  # in a tuple torch does not register it, so it is neither saved nor optimised

    def on_fit_start(self) -> None:
        self._teacher[0].to(self.device)

    def on_train_batch_start(self, batch: ImageTextBatch, batch_idx: int) -> None:
        if batch_idx == self.codebook_start:
            assert batch.images is not None
            with torch.no_grad():
                self.model.quantizer.start(self.model.vectors(batch.images.pixels_BCHW).flatten(0, 1))
            if dist.is_initialized():
                dist.broadcast(self.model.quantizer.codebook_KC, src=0)

    def training_step(self, batch: ImageTextBatch, batch_idx: int) -> Tensor:
        assert batch.images is not None
        quantized = batch_idx >= self.codebook_start
        pixels_BCHW = batch.images.pixels_BCHW
        loss = self.model.loss(pixels_BCHW, self._teacher[0](pixels_BCHW), quantized=quantized)
        revived = 0
        if quantized:
            revived = self.model.quantizer.update(loss.vectors_NC, loss.codes_N, _sum_over_ranks)
        values = {
            "loss": loss.total,
            "distance": loss.distance,
            "commitment": loss.commitment,
            "codes_used": self.model.quantizer.used,
            "codes_in_batch": (loss.codes_N.bincount(minlength=self.model.config.num_codes) > 0).float().mean(),
            "code_perplexity": perplexity(loss.codes_N),
            "codes_revived": float(revived),
        }
        self.log_step(values, shown=("distance", "code_perplexity"), tokens=len(loss.codes_N))
        return loss.total


class PretrainModule(RunModule):
    """Masked pretraining on three streams.

    Args:
        loss_weights: weight of each masked loss by name (BEiT-3 published none; 1 where absent).
        from_cls: also predict hidden positions from [CLS] alone.
    """

    model: PretrainModel

    def __init__(
        self,
        model: PretrainModel,
        visual_tokenizer: VisualTokenizer,
        optim: OptimConfig,
        *,
        steps: int,
        loss_weights: dict[str, float] | None = None,
        from_cls: bool = False,
    ) -> None:
        super().__init__(optim, steps=steps, depth=model.config.depth)
        self.model = model
        self.visual_tokenizer = visual_tokenizer.eval().requires_grad_(False)
        self.loss_weights = loss_weights or {}
        self.from_cls = from_cls

    def on_train_start(self) -> None:
        self.visual_tokenizer.eval()

    def _total(self, losses: dict[str, MaskedLoss]) -> Tensor:
        return torch.stack([self.loss_weights.get(name, 1.0) * part.loss for name, part in losses.items()]).sum()

    def training_step(self, batch: PretrainBatch, batch_idx: int) -> StepResult:
        losses, output = masked_losses(self.model, self.visual_tokenizer.codes, batch, from_cls=self.from_cls)
        values = {name: part.loss for name, part in losses.items()}
        shown = tuple(name for name in losses if not name.endswith("_cls"))
        return finish_step(self, self.model, self._total(losses), output, values, shown=shown)

    def validation_step(self, batch: PretrainBatch, batch_idx: int) -> None:
        losses, _ = masked_losses(self.model, self.visual_tokenizer.codes, batch, from_cls=self.from_cls)
        for name, part in losses.items():
            if part.positions:
                rows = {"batch_size": part.positions, "on_step": False, "on_epoch": True, "sync_dist": True}
                self.log(f"val/{name}", part.loss, **rows)  # type: ignore[arg-type]
                self.log(f"val/{name}_accuracy", part.correct / part.positions, **rows)  # type: ignore[arg-type]


class RetrievalModule(RunModule):
    """Contrastive fine-tuning of a dual encoder. Negatives are those of the process's own batch."""

    model: RetrievalModel

    def __init__(self, model: RetrievalModel, optim: OptimConfig, *, steps: int) -> None:
        super().__init__(optim, steps=steps, depth=model.config.depth)
        self.model = model

    def training_step(self, batch: ImageTextBatch, batch_idx: int) -> StepResult:
        image_BP, text_BP, output = self.model(batch)
        contrastive = info_nce(image_BP, text_BP, self.model.head.scale)
        values = {"contrastive": contrastive, "scale": self.model.head.scale}
        return finish_step(self, self.model, contrastive, output, values, shown=tuple(values))


class VQAModule(RunModule):
    """Fine-tuning of a fusion encoder on questions with soft answers."""

    model: VQAModel

    def __init__(self, model: VQAModel, optim: OptimConfig, *, steps: int) -> None:
        super().__init__(optim, steps=steps, depth=model.config.depth)
        self.model = model

    def training_step(self, batch: VQABatch, batch_idx: int) -> StepResult:
        logits_BA, output = self.model(batch.pairs)
        answer = soft_target_bce(logits_BA, batch.targets_BA)
        score = batch.targets_BA.gather(1, logits_BA.detach().argmax(dim=1, keepdim=True)).mean()
        values = {"answer": answer, "score": score}
        return finish_step(self, self.model, answer, output, values, shown=tuple(values))


def finish_step(
    module: RunModule,
    model: TaskModel,
    loss: Tensor,
    output: EncoderOutput,
    values: dict[str, Tensor],
    *,
    shown: tuple[str, ...],
) -> StepResult:
    """Balances the routers, adds the auxiliary losses to the task's loss and logs the step."""
    update_router_biases(model.encoder, output)
    auxiliary = auxiliary_losses(output.routing, model.config.moe, _sum_over_ranks)
    total = loss + weighted_auxiliary(auxiliary, model.config.moe)
    logged = {"loss": total, **values, **auxiliary, **sparse_metrics(output)}
    module.log_step(logged, shown=(*shown, "expert_load"), tokens=len(output.valid_T))
    return {"loss": total, "output": output.routing_only()}


def _sum_over_ranks(value: Tensor) -> Tensor:
    if dist.is_initialized():
        dist.all_reduce(value)
    return value
