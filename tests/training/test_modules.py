"""Truth: what a training step does to the routers that balance by a bias; the losses that a step has."""

from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch

from mm_mhmoe.batch import PretrainBatch
from mm_mhmoe.config import MoEConfig
from mm_mhmoe.models.tasks import PretrainModel, RetrievalModel
from mm_mhmoe.nn import SigmoidRouter, expert_counts
from mm_mhmoe.objectives.pairs import PairObjectives
from mm_mhmoe.objectives.picture_targets import CodeTarget
from mm_mhmoe.training.modules import PretrainModule, RetrievalModule
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


TARGET = CodeTarget(SimpleNamespace(codes=lambda pixels: torch.zeros(len(pixels), 16, dtype=torch.int64)))  # type: ignore[arg-type]
ALL = PairObjectives(caption=True, contrastive=True, itm=True)


def pretrain_module(config, **options) -> PretrainModule:
    torch.manual_seed(0)
    return PretrainModule(PretrainModel(config(), 8, embed_dim=6), TARGET, OptimConfig(), steps=1, **options)


@pytest.mark.parametrize(("from_cls", "objectives"), [(False, PairObjectives()), (True, ALL)])
def test_every_loss_of_a_step_can_be_weighted(config, stream, from_cls, objectives) -> None:
    """A weight of zero for each of them leaves the total at zero, a weight of two for one adds it once more."""
    batch = PretrainBatch(**{kind: stream(kind, masked=True) for kind in ("images", "texts", "pairs")})
    names = list(pretrain_module(config, from_cls=from_cls, objectives=objectives)._losses(batch, objectives)[0])
    assert len(names) == (11 if from_cls else 4)

    def total(weights: dict[str, float]) -> float:
        module = pretrain_module(config, from_cls=from_cls, objectives=objectives, loss_weights=weights)
        torch.manual_seed(1)
        with torch.no_grad():
            return float(module._total(module._losses(batch, objectives)[0]))

    assert total(dict.fromkeys(names, 0.0)) == 0.0
    for name in names:
        assert total({name: 2.0}) - total({}) == pytest.approx(
            total({**dict.fromkeys(names, 0.0), name: 1.0}), rel=1e-4
        )


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (
            {"loss_weights": {"pair_text": 2.0}},
            r"'pair_text' is no loss of this run; its losses are images, .*pairs_text$",
        ),
        ({"loss_weights": {"images_cls": 1.0}}, "'images_cls' is no loss"),
        (
            {"loss_weights": {"pairs_itm": 1.0}, "objectives": replace(ALL, itm=False)},
            "'pairs_itm' .*pairs_contrastive$",
        ),
        ({"loss_weights": {"texts": -1.0}}, "texts=-1.0 must be 0 or more"),
        ({"loss_weights": {"texts": float("nan")}}, "texts=nan must be 0 or more"),
    ],
)
def test_a_weight_of_no_loss_is_refused(config, options, told: str) -> None:
    with pytest.raises(ValueError, match=told):
        pretrain_module(config, **options)
