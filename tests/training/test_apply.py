"""Truth: the same run without the option."""

from __future__ import annotations

import weakref
from pathlib import Path

import pytest
import torch

from mm_mhmoe.config import MoEConfig
from mm_mhmoe.models.tasks import PretrainModel
from mm_mhmoe.nn import DroplessDispatcher
from mm_mhmoe.training.apply import checkpoint_blocks, compile_blocks, encoders


def test_recomputed_blocks_train_the_same_model(train, vector, tmp_path: Path) -> None:
    """Stochastic depth is on: what it drops must be drawn again."""
    kept, _ = train(tmp_path / "kept")
    recomputed, _ = train(tmp_path / "recomputed", activation_checkpointing="blocks")
    assert torch.equal(vector(kept), vector(recomputed))


@pytest.mark.parametrize("multiway", [False, True])
@pytest.mark.parametrize("router", ["top_k", "xmoe"])
def test_recomputed_blocks_keep_less(config, stream, multiway: bool, router) -> None:
    torch.manual_seed(0)
    model = PretrainModel(config(depth=4, multiway=multiway, moe=MoEConfig(num_experts=4, router=router)), 8)
    batch = stream(rows=4)

    def gradients_and_bytes() -> tuple[torch.Tensor, int]:
        kept: dict[int, int] = {}

        def keep(tensor: torch.Tensor) -> torch.Tensor:
            kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
            return tensor

        model.zero_grad(set_to_none=False)
        with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            output = model.encoder(batch)
            states = [part for part in output.streams[0] if part is not None]
            loss = (
                sum(part.float().square().mean() for part in states) + output.routing[0].routing.prob_SE.square().sum()
            )
        loss.backward()
        grads = [p.grad.flatten().clone() for p in model.parameters() if p.grad is not None]
        return torch.cat(grads), sum(kept.values())

    gradients_and_bytes()  # makes every gradient
    whole, all_bytes = gradients_and_bytes()
    names = list(model.state_dict())
    (encoder,) = encoders(model)
    checkpoint_blocks(encoder)
    again, few_bytes = gradients_and_bytes()
    assert torch.equal(whole, again) and list(model.state_dict()) == names
    assert few_bytes < 0.5 * all_bytes


@pytest.mark.parametrize("multiway", [False, True])
def test_compiled_blocks_give_the_same(config, stream, multiway: bool) -> None:
    """With dynamo and autograd's graphs, but without a code generator, which takes minutes."""
    torch.manual_seed(0)
    model = PretrainModel(config(depth=2, multiway=multiway, moe=MoEConfig(num_experts=4)), 8).eval()
    batch = stream(rows=3)
    names = list(model.state_dict())
    before = model.encoder(batch).streams[0]
    compile_blocks(model.encoder, backend="aot_eager")
    after = model.encoder(batch).streams[0]
    assert list(model.state_dict()) == names
    for one, other in zip(before, after, strict=True):
        if one is not None and other is not None:
            torch.testing.assert_close(one, other)


def test_recomputed_blocks_keep_no_rows_of_experts(config, stream, monkeypatch) -> None:
    """The row numbers of a block's experts are gone when its forward pass is over: weak references see it."""
    model = PretrainModel(config(moe=MoEConfig(num_experts=4, every=1)), 8)
    checkpoint_blocks(model.encoder)
    made: list[weakref.ref[torch.Tensor]] = []
    dispatch = DroplessDispatcher.dispatch

    def noted(*arguments):
        here_Sd, plan = dispatch(*arguments)
        made.extend(weakref.ref(tensor) for tensor in plan.rows.tensors)
        return here_Sd, plan

    monkeypatch.setattr(DroplessDispatcher, "dispatch", noted)
    output = model.encoder(stream(rows=4))
    assert output.streams[0].image_BND.requires_grad and len(made) == 2 * 3
    assert not any(reference() is not None for reference in made)
