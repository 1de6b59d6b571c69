"""Truth: the weights before the run, bit by bit."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from mm_mhmoe.config import MoEConfig
from mm_mhmoe.models.tasks import RetrievalModel
from mm_mhmoe.training.freezing import freeze
from mm_mhmoe.training.modules import RetrievalModule
from mm_mhmoe.training.optim import OptimConfig

CASES = {
    "top_k": {"moe": MoEConfig(num_experts=4, every=1, shared_experts=1)},
    "xmoe": {"ffn": "moe", "moe": MoEConfig(num_experts=4, every=1, router="xmoe")},
    "multiway": {"multiway": True, "moe": MoEConfig(num_experts=4, every=1)},
    "bias": {"moe": MoEConfig(num_experts=4, every=1, router="sigmoid_bias", balance_loss_weight=0.0)},
}


def belongs(name: str) -> set[str]:
    return {
        part
        for part, words in (("routers", (".router.",)), ("experts", (".experts.", ".shared.")))
        if any(w in name for w in words)
    }


@pytest.mark.parametrize("parts", [("routers",), ("experts",), ("routers", "experts")], ids="+".join)
@pytest.mark.parametrize("name", CASES)
def test_frozen_weights_stay_and_others_move(train, config, tmp_path: Path, name: str, parts) -> None:
    """Weight decay and averages are on, which would move a weight without a gradient."""
    model, trainer = train(tmp_path, encoder=CASES[name], freeze=parts, weight_decay=0.1, ema_decay=0.5, steps=4)
    torch.manual_seed(0)
    before = RetrievalModel(config(**{"depth": 3, "drop_path": 0.4, **CASES[name]}), 4).state_dict()
    frozen = {key for key in before if belongs(key) & set(parts)}
    assert frozen and trainer.global_step == 4
    for key, value in model.state_dict().items():
        if "mask_token" in key:
            continue  # nothing is hidden: it has no gradient
        assert torch.equal(value, before[key]) == (key in frozen), key


def test_without_sparse_layers_it_is_refused(config) -> None:
    model = RetrievalModel(config(ffn="dense"), 4)
    freeze(model, ())
    with pytest.raises(ValueError, match=r"optim.freeze=\['experts'\]: the model has no sparse layers"):
        freeze(model, ("experts",))


@pytest.mark.parametrize("kept", [True, False])
def test_losses_of_routers_count_or_not(config, stream, kept: bool) -> None:
    torch.manual_seed(0)
    model = RetrievalModel(config(moe=MoEConfig(num_experts=4, balance_loss_weight=0.5, z_loss_weight=0.25)), 4)
    module = RetrievalModule(model, OptimConfig(router_losses=kept), steps=1)
    found: dict[str, torch.Tensor] = {}
    module.log = lambda name, value, **_: found.__setitem__(name, value)  # there is no trainer
    loss = module.training_step(stream(), 0)["loss"]
    routers = 0.5 * found["train/balance"] + 0.25 * found["train/router_z"]
    assert routers > 0.1
    torch.testing.assert_close(loss, found["train/contrastive"] + (routers if kept else 0.0))
