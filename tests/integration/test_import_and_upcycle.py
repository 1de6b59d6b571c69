"""From an imported checkpoint of BEiT-3's shape to MH-MoE that is trained on. Random weights, random data.

Truth: the loss of the imported model; that of the same model with fresh sparse layers (docs/UPCYCLING.md, "Numbers").
"""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from mm_mhmoe.batch import Images, ImageTextBatch, PretrainBatch, Texts
from mm_mhmoe.commands import import_model
from mm_mhmoe.commands.probe import ffn_inputs
from mm_mhmoe.config import EncoderConfig, MoEConfig
from mm_mhmoe.models.checkpoints import load
from mm_mhmoe.models.tasks import PretrainModel
from mm_mhmoe.models.upcycling import to_sparse
from mm_mhmoe.objectives.masked import masked_losses
from mm_mhmoe.objectives.picture_targets import CodeTarget

CODES, ROWS, LENGTH = 6, 12, 7
MH_MOE = MoEConfig(num_experts=8, top_k=2, heads=4, every=2)


def batch_of(seed: int) -> PretrainBatch:
    """Pictures of one grey value a row, and texts of one word a row: what is hidden can be told from what is seen."""
    torch.manual_seed(seed)

    def images() -> Images:
        grey = torch.linspace(-1, 1, ROWS).view(ROWS, 1, 1, 1)
        pixels = grey + 0.1 * torch.randn(ROWS, 3, 8, 8)
        return Images(pixels_BCHW=pixels, masked_BN=torch.rand(ROWS, 4) < 0.4)

    def texts() -> Texts:
        ids = (5 + torch.arange(ROWS) % 12).unsqueeze(1).repeat(1, LENGTH)
        ids[:, 0], ids[:, -1] = 0, 2
        hidden = torch.rand(ROWS, LENGTH) < 0.4
        hidden[:, 0] = hidden[:, -1] = False
        return Texts(ids_BL=ids, valid_BL=torch.ones(ROWS, LENGTH, dtype=torch.bool), masked_BL=hidden)

    pairs = ImageTextBatch(images=images(), texts=texts())
    return PretrainBatch(images=ImageTextBatch(images=images()), texts=ImageTextBatch(texts=texts()), pairs=pairs)


def codes_of(pixels_BCHW: torch.Tensor) -> torch.Tensor:
    """One code a picture, by how bright it is."""
    level_B = ((pixels_BCHW.mean(dim=(1, 2, 3)) + 1) / 2 * CODES).long().clamp(0, CODES - 1)
    return level_B.unsqueeze(1).expand(-1, 4)


def loss_of(model: PretrainModel, seed: int) -> torch.Tensor:
    losses, _ = masked_losses(model, CodeTarget(SimpleNamespace(codes=codes_of)), batch_of(seed))
    return torch.stack([part.loss for part in losses.values()]).sum()


def held_out(model: PretrainModel) -> float:
    with torch.no_grad():
        return sum(float(loss_of(model.eval(), seed)) for seed in range(1000, 1004)) / 4


def train(model: PretrainModel, steps: int, first: int) -> None:
    optimizer = torch.optim.AdamW(model.parameters(), lr=5e-3)
    for step in range(first, first + steps):
        optimizer.zero_grad()
        loss_of(model.train(), step).backward()
        optimizer.step()


def rebuilt(config: EncoderConfig, weights: dict[str, torch.Tensor]) -> PretrainModel:
    model = PretrainModel(config, CODES)
    model.load_state_dict(weights)
    return model


@pytest.fixture
def dense(released, tmp_path: Path) -> PretrainModel:
    """The imported checkpoint, trained a little, so that its states matter to its loss."""
    torch.save({"model": released}, tmp_path / "beit3.pth")
    torch.manual_seed(0)
    import_model.beit3(tmp_path / "beit3.pth", tmp_path / "m", num_heads=2, max_length=LENGTH, num_codes=CODES)
    model = load(tmp_path / "m")
    assert isinstance(model, PretrainModel)
    train(model, 80, first=0)
    return model


def test_the_loss_goes_on_from_where_it_was(dense) -> None:
    """What docs/UPCYCLING.md promises: with copies nothing changes; the start of MH-MoE, fitted on the model's own
    inputs, raises the loss by less than a fifth of what fresh experts raise it by, and training goes on from there."""
    before, weights = held_out(dense), dense.state_dict()
    base = dense.config.to_dict()

    copies = EncoderConfig.from_dict(
        base
        | {"ffn": "moe", "moe": {"num_experts": 4, "parity": "none", "hidden_dim": dense.config.ffn_dim, "every": 2}}
    )
    copied = rebuilt(*to_sparse(dense.config, weights, copies))
    assert held_out(copied) == pytest.approx(before, abs=1e-5)

    target = EncoderConfig.from_dict(base | {"ffn": "mh_moe", "moe": vars(MH_MOE)})
    batch = batch_of(500)
    inputs = ffn_inputs(dense, [batch.images, batch.texts, batch.pairs])
    started = rebuilt(*to_sparse(dense.config, weights, target, inputs=inputs))
    torch.manual_seed(2)
    fresh = rebuilt(target, {k: weights.get(k, v) for k, v in PretrainModel(target, CODES).state_dict().items()})
    jump, jump_of_fresh = held_out(started) - before, held_out(fresh) - before
    assert 0 < jump < 0.2 * jump_of_fresh

    train(started, 15, first=80)
    assert held_out(started) < before
