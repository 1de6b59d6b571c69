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
    module.training_step(batch, 0)["loss"].backward()
    module.on_after_backward()
    routers = [m for m in model.modules() if isinstance(m, SigmoidRouter)]
    assert len(routers) == len(output.routing) == model.config.depth
    for router, layer in zip(routers, output.routing, strict=True):
        counts = expert_counts(layer.routing)
        torch.testing.assert_close(router.bias_E, 1e-3 * torch.sign(counts.mean() - counts))


def test_blocks_that_are_computed_again_choose_the_same_experts(train, vector, tmp_path, monkeypatch) -> None:
    """A step of the bias as large as the scores: were it taken before the backward pass, other experts would learn."""
    monkeypatch.setitem(SigmoidRouter.__init__.__kwdefaults__, "bias_step", 0.5)
    moe = MoEConfig(num_experts=4, every=1, router="sigmoid_bias", balance_loss_weight=0.0)
    models = [
        train(tmp_path / kept, encoder={"moe": moe}, activation_checkpointing=kept)[0] for kept in ("none", "blocks")
    ]
    assert torch.equal(*map(vector, models))
