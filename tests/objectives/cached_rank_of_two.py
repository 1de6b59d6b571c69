"""One of two processes, run as a script by test_gradient_cache.py: RANK FOLDER.

Reads given.pt (configuration, weights, batches of the ranks) and writes RANK.pt: loss and gradients of a training step
in chunks under torch's DistributedDataParallel, as Lightning runs it here.
"""

import sys

import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from mm_mhmoe.models.tasks import RetrievalModel
from mm_mhmoe.training.modules import RetrievalModule
from mm_mhmoe.training.optim import OptimConfig


class Step(nn.Module):
    def __init__(self, module: RetrievalModule) -> None:
        super().__init__()
        self.module = module

    def forward(self, batch) -> torch.Tensor:
        return self.module.training_step(batch, 0)["loss"]


def main(rank: int, folder: str) -> None:
    dist.init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=2)
    config, weights, batches = torch.load(f"{folder}/given.pt", weights_only=False)
    model = RetrievalModel(config, embed_dim=8).double()
    model.load_state_dict(weights)
    module = RetrievalModule(model, OptimConfig(warmup_steps=0), steps=1, chunk=2)
    module.log = lambda *_, **__: None  # there is no trainer
    parallel = DistributedDataParallel(Step(module), find_unused_parameters=True)
    loss = parallel(batches[rank])
    loss.backward()
    gradients = {name: p.grad for name, p in model.named_parameters() if p.grad is not None}
    torch.save({"loss": loss.detach(), "gradients": gradients}, f"{folder}/{rank}.pt")
    dist.destroy_process_group()


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2])
