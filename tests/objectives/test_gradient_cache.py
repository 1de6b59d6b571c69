"""Truth: the same batch in one pass that keeps its graph; with stochastic depth, the same chunks with kept graphs.

All in float64, so that no choice of an expert hangs on the order of a sum.
"""

import weakref
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from mm_mhmoe.config import MoEConfig
from mm_mhmoe.models.tasks import RetrievalModel
from mm_mhmoe.objectives import gradient_cache
from mm_mhmoe.objectives.contrastive import info_nce
from mm_mhmoe.objectives.gradient_cache import embed_in_chunks, split_pairs
from mm_mhmoe.objectives.sparse import auxiliary_losses, weighted_auxiliary


@pytest.fixture
def model_of(config):
    def make(**changes):
        torch.manual_seed(0)
        return RetrievalModel(config(**changes), embed_dim=8).double().train()

    return make


def step(model, pairs, chunk):
    """Loss with the routers' own, the encoder's output, and gradients, by the module's way to combine them."""
    model.zero_grad()
    torch.manual_seed(3)
    image_BP, text_BP, output = embed_in_chunks(model, pairs, chunk)
    moe = model.config.moe
    loss = info_nce(image_BP, text_BP, model.head.scale)
    loss = loss + weighted_auxiliary(auxiliary_losses(output.routing, moe), moe)
    drawn = torch.random.get_rng_state()
    loss.backward()
    assert torch.equal(drawn, torch.random.get_rng_state())  # what is drawn again is no draw of the run
    return loss.detach(), output, {name: p.grad for name, p in model.named_parameters() if p.grad is not None}


ROUTERS = {
    "dense": {"ffn": "dense"},
    "top_k": {"moe": MoEConfig(num_experts=4, top_k=2, every=1, balance_loss_weight=0.3, z_loss_weight=0.1)},
    "xmoe": {"moe": MoEConfig(num_experts=4, top_k=1, router="xmoe", balance_loss_weight=0.3)},
    "multiway": {"multiway": True, "moe": MoEConfig(num_experts=4, balance_loss_weight=0.3)},
}


@pytest.mark.parametrize("name", ROUTERS)
@pytest.mark.parametrize("chunk", [2, 3])
def test_gradients_are_those_of_the_whole_batch(model_of, stream, name, chunk) -> None:
    """7 pairs, so the last chunk is smaller; the routers' losses are of the whole batch too."""
    model, pairs = model_of(**ROUTERS[name]), stream(rows=7, dtype=torch.float64)
    whole, output, wanted = step(model, pairs, None)
    chunked, again, found = step(model, pairs, chunk)
    torch.testing.assert_close(chunked, whole)
    assert found.keys() == wanted.keys()
    torch.testing.assert_close(found, wanted)
    assert any(grad.abs().max() > 1e-3 for grad in wanted.values())
    assert again.valid_T.sum() == output.valid_T.sum() and again.is_text_T.sum() == output.is_text_T.sum()
    for one, other in zip(again.routing, output.routing, strict=True):
        assert one.layer == other.layer
        assert sorted(one.routing.experts_SK.flatten()) == sorted(other.routing.experts_SK.flatten())


@pytest.mark.parametrize("router", ["top_k", "capacity"])
def test_what_was_random_is_the_same_again(model_of, stream, monkeypatch, router) -> None:
    """Stochastic depth, the router's noise, and an expert's capacity in each chunk. Truth: no second pass."""
    extra = {"capacity_factor": 1.0} if router == "capacity" else {"router_noise": 0.5}
    model = model_of(drop_path=0.5, moe=MoEConfig(num_experts=4, top_k=2, every=1, **extra))
    pairs = stream(rows=6, dtype=torch.float64)
    cached, _, found = step(model, pairs, 2)
    monkeypatch.setattr(gradient_cache, "checkpoint", lambda function, *inputs, use_reentrant: function(*inputs))
    kept, _, wanted = step(model, pairs, 2)
    assert torch.equal(cached, kept) and found.keys() == wanted.keys()
    for name, grad in wanted.items():
        torch.testing.assert_close(found[name], grad, rtol=1e-12, atol=1e-14)


class PeakBytes(TorchDispatchMode):
    """The most bytes that tensors made under it held at the same time."""

    def __init__(self) -> None:
        super().__init__()
        self.live, self.peak = {}, 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        made = function(*args, **(kwargs or {}))
        for tensor in tree_leaves(made):
            if isinstance(tensor, torch.Tensor):
                storage = tensor.untyped_storage()
                key = storage._cdata
                self.live[key] = (storage.nbytes(), weakref.ref(storage, lambda _, key=key: self.live.pop(key, None)))
        self.peak = max(self.peak, sum(size for size, _ in self.live.values()))
        return made


def test_the_peak_is_that_of_a_chunk(model_of, stream) -> None:
    """Of the whole step, backward pass included; gradients are there before."""
    model, pairs = model_of(ffn="dense", depth=6), stream(rows=16, dtype=torch.float64)
    peaks = {}
    for chunk in (2, None):
        step(model, pairs, chunk)
        with PeakBytes() as measured:
            image_BP, text_BP, _ = embed_in_chunks(model, pairs, chunk)
            info_nce(image_BP, text_BP, model.head.scale).backward()
        peaks[chunk] = measured.peak
    assert 0 < peaks[2] < peaks[None] / 4  # an eighth, and what does not grow with the rows


def test_parts_of_a_batch(stream) -> None:
    pairs = replace(stream(rows=5, masked=True), keys=tuple("abcde"), causal_text=True)
    parts = list(split_pairs(pairs, 2))
    assert [part.keys for part in parts] == [("a", "b"), ("c", "d"), ("e",)] and all(p.causal_text for p in parts)
    for name in ("ids_BL", "valid_BL", "masked_BL"):
        assert torch.equal(torch.cat([getattr(p.texts, name) for p in parts]), getattr(pairs.texts, name))
    assert torch.equal(torch.cat([p.images.masked_BN for p in parts]), pairs.images.masked_BN)
    assert next(split_pairs(stream("texts"), 2)).images is None


@pytest.fixture(scope="module")
def two(two_ranks, config, stream, tmp_path_factory):
    """A model, batches of two ranks, and what two real processes over gloo found, in chunks of 2."""
    torch.manual_seed(1)
    chosen = config(moe=MoEConfig(num_experts=4, top_k=2, balance_loss_weight=0.3, balance_scope="global"))
    model = RetrievalModel(chosen, embed_dim=8).double()
    batches = [stream(rows=5, seed=seed, dtype=torch.float64) for seed in (1, 2)]
    folder = tmp_path_factory.mktemp("ranks")
    torch.save((chosen, model.state_dict(), batches), folder / "given.pt")
    return model, batches, two_ranks(Path(__file__).with_name("cached_rank_of_two.py"), folder)


def test_negatives_of_two_processes(two) -> None:
    """Truth: one process with both batches as one, without chunks. Gradients as DDP averages them."""
    model, batches, ranks = two
    texts = [batch.texts for batch in batches]
    images = replace(batches[0].images, pixels_BCHW=torch.cat([b.images.pixels_BCHW for b in batches]))
    both = replace(
        batches[0],
        images=images,
        texts=replace(
            texts[0],
            ids_BL=torch.cat([t.ids_BL for t in texts]),
            valid_BL=torch.cat([t.valid_BL for t in texts]),
        ),
    )
    loss, _, wanted = step(model, both, None)
    torch.testing.assert_close((ranks[0]["loss"] + ranks[1]["loss"]) / 2, loss)
    for rank in ranks:
        assert rank["gradients"].keys() == wanted.keys()
        torch.testing.assert_close(rank["gradients"], wanted, rtol=1e-5, atol=1e-6)  # embeddings are normalised in fp32
