"""Two real processes over gloo, each with its own batches. Truth: one process with the batches of both.

All in float64, so that no choice of an expert hangs on the order of a sum.
"""

from pathlib import Path

import pytest
import torch

from mm_mhmoe.batch import ImageTextBatch
from mm_mhmoe.config import MoEConfig
from mm_mhmoe.models.builder import build_encoder
from mm_mhmoe.models.tasks import RetrievalModel
from mm_mhmoe.nn import SigmoidRouter, expert_counts
from mm_mhmoe.objectives.sparse import auxiliary_losses
from mm_mhmoe.training.modules.run import update_router_biases

STEPS = 4
CASES = {
    "local": {},
    "global": {"balance_scope": "global"},
    "global_first": {"balance_scope": "global", "balance_choices": "first"},
    "bias": {"router": "sigmoid_bias", "balance_loss_weight": 0.0},
}


@pytest.fixture(scope="module")
def given(config, stream):
    """For every case: configuration, weights, and batches that the ranks take in turn, of unequal size and padding."""
    batches = [
        stream("pairs", rows=3 + 2 * (i % 2), seed=i, dtype=torch.float64, padded=i % 2 == 1) for i in range(2 * STEPS)
    ]
    cases = {}
    for name, options in CASES.items():
        chosen = config(moe=MoEConfig(num_experts=4, every=1, heads=4, **options))
        torch.manual_seed(0)
        cases[name] = (chosen, RetrievalModel(chosen, embed_dim=8).double().state_dict(), batches)
    return cases


@pytest.fixture(scope="module")
def multiway(config, stream):
    """A multiway encoder with all its options, its weights, and the streams of either rank: the second one's steps have
    no pictures alone, so that some layers get no gradient there."""
    moe = MoEConfig(num_experts=4, every=2)
    options = {"relative_positions": "layer", "image_positions": False, "layer_scale": 0.5, "vl_layers": 1}
    chosen = config(multiway=True, ffn="mh_moe", moe=moe, **options)
    torch.manual_seed(0)
    encoder = build_encoder(chosen).double()
    kinds = (("images", "pairs"), ("texts", "pairs"))
    batches = [
        [stream(kind, rows=3, seed=10 * rank + n, dtype=torch.float64, padded=False) for n, kind in enumerate(row)]
        for rank, row in enumerate(kinds)
    ]
    return chosen, encoder.state_dict(), batches


@pytest.fixture(scope="module")
def ranks(given, multiway, two_ranks, tmp_path_factory):
    """What each of the two processes found, by case."""
    folder = tmp_path_factory.mktemp("ranks")
    torch.save(given, folder / "given.pt")
    torch.save(multiway, folder / "multiway.pt")
    return two_ranks(Path(__file__).with_name("rank_of_two.py"), folder)


def rebuilt(case):
    chosen, weights, batches = case
    model = RetrievalModel(chosen, embed_dim=8).double()
    model.load_state_dict(weights)
    return model, batches


def encoded(model, *batches):
    """The encoder's output for several batches as the streams of one pass."""
    streams = [(ImageTextBatch(images=batch.images), ImageTextBatch(texts=batch.texts)) for batch in batches]
    return model.encoder(*(stream for pair in streams for stream in pair))


def gradients_of(loss, model):
    names, parameters = zip(*model.named_parameters(), strict=True)
    found = torch.autograd.grad(loss, parameters, allow_unused=True)
    return {name: grad for name, grad in zip(names, found, strict=True) if grad is not None}


def test_gradients_of_a_multiway_encoder_are_those_of_both_batches_in_one(multiway, ranks):
    chosen, weights, batches = multiway
    encoder = build_encoder(chosen).double()
    encoder.load_state_dict(weights)
    states = encoder(*batches[0], *batches[1]).streams
    loss = sum(part.pow(3).sum() for both in states for part in both if part is not None) / 6
    wanted = gradients_of(loss, encoder)
    assert {name.split(".")[3] for name in wanted if ".ffn." in name and name.startswith("blocks.1")} == {
        "image",
        "text",
        "pair",
    }
    for found in ranks:
        assert found["multiway"].keys() == wanted.keys()
        torch.testing.assert_close(found["multiway"], wanted)


@pytest.mark.parametrize("name", ["global", "global_first"])
def test_the_global_loss_is_that_of_both_batches_in_one(given, ranks, name):
    model, batches = rebuilt(given[name])
    options = model.config.moe
    together = [
        auxiliary_losses(encoded(model, *batches[2 * step : 2 * step + 2]).routing, options)["balance"]
        for step in range(STEPS)
    ]
    averaged = (ranks[0][name]["losses"] + ranks[1][name]["losses"]) / 2
    torch.testing.assert_close(averaged, torch.stack(together).detach())
    wanted = gradients_of(together[0], model)
    assert ranks[0][name]["gradients"].keys() == wanted.keys() and any(g.abs().max() > 1e-3 for g in wanted.values())
    torch.testing.assert_close(ranks[0][name]["gradients"], wanted)


def test_the_local_loss_is_the_ranks_own(given, ranks):
    model, batches = rebuilt(given["local"])
    for rank in (0, 1):
        own = [auxiliary_losses(encoded(model, b).routing, model.config.moe)["balance"] for b in batches[rank::2]]
        torch.testing.assert_close(ranks[rank]["local"]["losses"], torch.stack(own).detach())
    local, both = (sum(ranks[rank][name]["losses"] for rank in (0, 1)) / 2 for name in ("local", "global"))
    assert (local - both).abs().min() > 1e-4  # the two scopes differ on these batches
    first = sum(ranks[rank]["global_first"]["losses"] for rank in (0, 1)) / 2
    assert (first - both).abs().min() > 1e-4


def test_the_biases_are_bitwise_the_same_and_those_of_both_batches(given, ranks):
    model, batches = rebuilt(given["bias"])
    routers = [m for m in model.modules() if isinstance(m, SigmoidRouter)]
    apart = False
    for step in range(STEPS):
        pair = batches[2 * step : 2 * step + 2]
        alone = [[expert_counts(layer.routing) for layer in encoded(model, batch).routing] for batch in pair]
        signs = [torch.stack([torch.sign(c.mean() - c) for c in counts]) for counts in alone]
        apart = apart or not torch.equal(*signs)
        update_router_biases(model.encoder, encoded(model, *pair))
    assert apart  # each by its own counts, the ranks would have parted
    assert len(routers) == len(ranks[0]["bias"]["biases"]) == 2
    for router, first, second in zip(routers, ranks[0]["bias"]["biases"], ranks[1]["bias"]["biases"], strict=True):
        assert torch.equal(first, second) and torch.equal(first, router.bias_E) and first.any()
