"""One of two processes, run as a script by test_two_ranks.py: RANK FOLDER.

Reads given.pt (cases: configuration, weights, batches that the ranks take in turn) and writes RANK.pt: the balance loss
of every training step, the gradient of the first one's averaged over ranks, and the routers' biases at the end; and the
gradients of a multiway encoder (multiway.pt).
"""

import sys

import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from mm_mhmoe.batch import ImageTextBatch
from mm_mhmoe.models.builder import build_encoder
from mm_mhmoe.models.encoder import Encoder
from mm_mhmoe.models.tasks import RetrievalModel
from mm_mhmoe.nn import SigmoidRouter
from mm_mhmoe.training import modules
from mm_mhmoe.training.optim import OptimConfig


class Squares(nn.Module):
    """The encoder with a number that depends on all its states: a mean over `rows` rows."""

    def __init__(self, encoder: Encoder, rows: int) -> None:
        super().__init__()
        self.encoder = encoder
        self.rows = rows

    def forward(self, *streams: ImageTextBatch) -> torch.Tensor:
        parts = [part for both in self.encoder(*streams).streams for part in both if part is not None]
        return sum(part.pow(3).sum() for part in parts) / self.rows


def data_parallel(config, weights, batches, rank: int) -> dict[str, torch.Tensor]:
    """Gradients of torch's own DistributedDataParallel, as Lightning runs it here."""
    encoder = build_encoder(config).double()
    encoder.load_state_dict(weights)
    parallel = DistributedDataParallel(Squares(encoder, rows=3), find_unused_parameters=True)
    parallel(*batches[rank]).backward()
    return {name: p.grad for name, p in encoder.named_parameters() if p.grad is not None}


def main(rank: int, folder: str) -> None:
    dist.init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=2)
    found = {}
    for name, (config, weights, batches) in torch.load(f"{folder}/given.pt", weights_only=False).items():
        model = RetrievalModel(config, embed_dim=8).double()
        model.load_state_dict(weights)
        module = modules.RetrievalModule(model, OptimConfig(warmup_steps=0), steps=len(batches) // 2)
        losses = []
        module.log = lambda key, value, losses=losses, **_: losses.append(value) if key == "train/balance" else None
        for step, batch in enumerate(batches[rank::2]):
            module.training_step(batch, step)
            module.on_after_backward()
        losses[0].backward()
        gradients = {k: p.grad for k, p in model.named_parameters() if p.grad is not None}
        for gradient in gradients.values():
            dist.all_reduce(gradient.div_(2))  # as data parallelism does
        biases = [m.bias_E for m in model.modules() if isinstance(m, SigmoidRouter)]
        found[name] = {"losses": torch.stack(losses).detach(), "gradients": gradients, "biases": biases}
    found["multiway"] = data_parallel(*torch.load(f"{folder}/multiway.pt", weights_only=False), rank)
    torch.save(found, f"{folder}/{rank}.pt")
    dist.destroy_process_group()


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2])
