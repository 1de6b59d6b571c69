"""Truth: what a training step does to the routers that balance by a bias."""

import torch

from mm_mhmoe.config import MoEConfig
from mm_mhmoe.models.tasks import RetrievalModel
from mm_mhmoe.nn import SigmoidRouter, expert_counts
from mm_mhmoe.training.modules import RetrievalModule
from mm_mhmoe.training.optim import OptimConfig


def test_a_step_moves_the_bias_of_every_layer_against_its_own_load(config, stream) -> None:
    torch.manual_seed(0)
    moe = MoEConfig(num_experts=4, every=1, router="sigmoid_bias", balance_loss_weight=0.0)
    model = RetrievalModel(config(moe=moe), embed_dim=8)
    module = RetrievalModule(model, OptimConfig(warmup_steps=0), steps=1)
    module.log = lambda *_, **__: None  # there is no trainer
    batch = stream("pairs")
    _, _, output = model(batch)
    module.training_step(batch, 0)
    routers = [m for m in model.modules() if isinstance(m, SigmoidRouter)]
    assert len(routers) == len(output.routing) == model.config.depth
    for router, layer in zip(routers, output.routing, strict=True):
        counts = expert_counts(layer.routing)
        torch.testing.assert_close(router.bias_E, 1e-3 * torch.sign(counts.mean() - counts))
