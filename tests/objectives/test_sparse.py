"""Truth: the mean over layers of the two losses that tests/nn hold against their papers."""

import pytest
import torch

from mm_mhmoe.config import MoEConfig
from mm_mhmoe.models.builder import build_encoder
from mm_mhmoe.nn import load_balance_loss, router_z_loss
from mm_mhmoe.objectives.sparse import auxiliary_losses, weighted_auxiliary


def test_means_over_layers_and_their_weights(config, stream) -> None:
    torch.manual_seed(0)
    moe = MoEConfig(num_experts=4, every=1, balance_loss_weight=0.3, z_loss_weight=0.07)
    routing = build_encoder(config(depth=3, moe=moe))(stream()).routing
    assert len(routing) == 3
    losses = auxiliary_losses(routing, moe)
    balance = sum(load_balance_loss(layer.routing).item() for layer in routing) / 3
    router_z = sum(router_z_loss(layer.routing).item() for layer in routing) / 3
    assert losses["balance"].item() == pytest.approx(balance) and losses["router_z"].item() == pytest.approx(router_z)
    assert weighted_auxiliary(losses, moe).item() == pytest.approx(0.3 * balance + 0.07 * router_z)


def test_the_configuration_says_whose_loads_and_which_choices_count(config, stream) -> None:
    torch.manual_seed(0)
    routing = build_encoder(config(moe=MoEConfig(num_experts=4, every=1)))(stream()).routing
    calls = []

    def doubled(value):  # as if a second rank had the same batch
        calls.append(value)
        return 2 * value

    def balance(**options):
        calls.clear()
        return auxiliary_losses(routing, MoEConfig(num_experts=4, **options), doubled)["balance"].item()

    local = balance()
    assert not calls
    assert balance(balance_scope="global") == pytest.approx(local) and len(calls) == len(routing) == 2
    first = sum(load_balance_loss(layer.routing, first_choice=True).item() for layer in routing) / 2
    assert balance(balance_choices="first") == pytest.approx(first) and abs(first - local) > 1e-4


def test_a_dense_encoder_adds_nothing(config, stream) -> None:
    losses = auxiliary_losses(build_encoder(config(ffn="dense"))(stream()).routing, MoEConfig())
    assert losses == {} and weighted_auxiliary(losses, MoEConfig()) == 0.0
