"""Truth: the dense multiway model's own outputs in float64; what docs/UPCYCLING.md promises of a model's start."""

from types import SimpleNamespace

import pytest
import torch

from mm_mhmoe.batch import PretrainBatch
from mm_mhmoe.config import MoEConfig
from mm_mhmoe.models.builder import build_encoder
from mm_mhmoe.models.tasks import PretrainModel
from mm_mhmoe.models.upcycling import resize, to_dense, to_single_head, to_sparse
from mm_mhmoe.objectives.masked import STREAMS, masked_losses
from mm_mhmoe.objectives.picture_targets import CodeTarget

EXACT = {"rtol": 0.0, "atol": 1e-12}


@pytest.fixture
def made(config, copies, weights):
    """A dense multiway configuration, its weights, and the configuration with experts that are copies."""

    def make(ffn: str = "moe", **moe):
        dense = config(ffn="dense", multiway=True)
        return dense, weights(dense), config(ffn=ffn, multiway=True, moe=copies(ffn, **moe).moe)

    return make


def test_copies_are_the_dense_model(made, states) -> None:
    dense, before, target = made()
    after = to_sparse(dense, before, target)
    torch.testing.assert_close(states(*after), states(dense, before), **EXACT)
    for way in ("image", "text"):
        stack = after[1][f"blocks.1.ffn.{way}.experts.w1_EdF"]
        assert all(torch.equal(stack[e].t(), before[f"blocks.1.ffn.{way}.fc1.weight"]) for e in range(4))


def test_more_experts_one_head_and_the_way_back_keep_the_function(made, states) -> None:
    dense, before, target = made()
    wanted = states(dense, before)
    sparse = to_sparse(dense, before, target)
    for after in (resize(*sparse, 8, top_k=4), to_single_head(*sparse), to_dense(*sparse)):
        torch.testing.assert_close(states(*after), wanted, **EXACT)
    back = to_dense(*sparse)
    assert back[0].ffn == "dense" and all(torch.equal(back[1][name], value) for name, value in before.items())


def test_fewer_experts_are_chosen_in_each_pool(made) -> None:
    dense, before, target = made()
    sparse = to_sparse(dense, before, target, noise=0.1)
    counts = {(1, "image"): torch.tensor([0, 5, 0, 5]), (1, "text"): torch.tensor([5, 5, 0, 0])}
    _, after = resize(*sparse, 2, counts=counts)
    for way, kept in (("image", [1, 3]), ("text", [0, 1])):
        name = f"blocks.1.ffn.{way}.experts.w1_EdF"
        assert torch.equal(after[name], sparse[1][name][kept])


def test_sub_tokens_are_fitted_on_each_modalitys_inputs(config, weights) -> None:
    """The merge layer of the modality with other inputs moves, that of the other one does not."""
    dense, target = (config(ffn=f, multiway=True, moe=MoEConfig(num_experts=4, top_k=1)) for f in ("dense", "mh_moe"))
    before = weights(dense)
    torch.manual_seed(1)
    inputs = torch.randn(200, 32, dtype=torch.float64)
    first, second = (
        to_sparse(dense, before, target, inputs={(1, "image"): inputs, (1, "text"): scale * inputs})[1]
        for scale in (1.0, 0.5)
    )
    merge = "blocks.1.ffn.{}.merge.weight"
    assert torch.equal(first[merge.format("image")], second[merge.format("image")])
    assert not torch.equal(first[merge.format("text")], second[merge.format("text")])


def test_the_start_of_mh_moe_stays_near_the_dense_model(config, weights, states) -> None:
    """Less than .6 of an FFN with random weights is missed (docs/UPCYCLING.md), so states move less than under fresh
    experts."""
    dense, target = (config(ffn=f, multiway=True, moe=MoEConfig(num_experts=8, top_k=2)) for f in ("dense", "mh_moe"))
    before = weights(dense)
    wanted = states(dense, before)
    _, started = to_sparse(dense, before, target)
    torch.manual_seed(3)
    fresh = {k: before.get(k, v) for k, v in build_encoder(target).double().state_dict().items()}
    near, far = ((states(target, w) - wanted).square().mean() for w in (started, fresh))
    assert near < 0.6 * far


@torch.no_grad()
def test_the_loss_does_not_jump(config, copies, stream) -> None:
    """Of masked pretraining: the same with copies (docs/UPCYCLING.md), and less changed by the start of MH-MoE than by
    fresh experts."""
    batch = PretrainBatch(**{kind: stream(kind, dtype=torch.float64, masked=True) for kind in STREAMS})
    codes = torch.arange(3 * 16).view(3, 16) % 8

    def loss(configuration, weights) -> torch.Tensor:
        model = PretrainModel(configuration, 8).double().eval()
        model.load_state_dict(weights)
        target = CodeTarget(SimpleNamespace(codes=lambda _: codes))
        losses, _ = masked_losses(model, target, batch)
        return torch.stack([part.loss for part in losses.values()])

    torch.manual_seed(0)
    dense = config(ffn="dense", multiway=True)
    source = PretrainModel(dense, 8).double()
    torch.nn.init.normal_(source.image_head.weight)  # with its own small ones, no state would matter
    torch.nn.init.normal_(source.text_head.weight)
    before = source.state_dict()
    wanted = loss(dense, before)
    copied = loss(*to_sparse(dense, before, config(ffn="moe", multiway=True, moe=copies("moe").moe)))
    torch.testing.assert_close(copied, wanted, **EXACT)
    target = config(ffn="mh_moe", multiway=True, moe=MoEConfig(num_experts=8, top_k=2))
    fresh = {k: before.get(k, v) for k, v in PretrainModel(target, 8).double().state_dict().items()}
    started, random = (loss(*made) - wanted for made in (to_sparse(dense, before, target), (target, fresh)))
    assert started.norm() < random.norm()


def test_a_pool_for_both_is_refused(made) -> None:
    dense, before, target = made(pools="shared")
    with pytest.raises(ValueError, match=r"moe.pools=shared.*use moe.pools=modality"):
        to_sparse(dense, before, target)
    model = PretrainModel(target, 8)
    with pytest.raises(ValueError, match=r"moe.pools=shared: pictures and texts share"):
        to_dense(target, model.state_dict())


def test_experts_of_pairs_are_copies_of_theirs(config, copies, weights, states) -> None:
    dense = config(ffn="dense", multiway=True, vl_layers=1)
    before = weights(dense)
    target = config(ffn="moe", multiway=True, vl_layers=1, moe=copies("moe").moe)
    after = to_sparse(dense, before, target)
    torch.testing.assert_close(states(*after), states(dense, before), **EXACT)
    assert torch.equal(after[1]["blocks.1.ffn.pair.experts.w1_EdF"][2].t(), before["blocks.1.ffn.pair.fc1.weight"])
    back = to_dense(*after)
    assert all(torch.equal(back[1][name], value) for name, value in before.items())
