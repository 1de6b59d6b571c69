"""How far upcycling moves a trained dense model, and what is left of it after some steps of training.

After `mm-mhmoe demo --controls all --out runs/demo`:
    python docs/examples/upcycling.py runs/demo/seed_0/dense/pretrain runs/demo/visual_tokenizer
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch
import torch.nn.functional as F
from mm_mhmoe_data.datamodules import PretrainDataModule
from mm_mhmoe_data.tokenizer import Tokenizer
from torch import Tensor

from mm_mhmoe.batch import PretrainBatch
from mm_mhmoe.commands.probe import ffn_inputs, probe_streams
from mm_mhmoe.commands.sources import data_path
from mm_mhmoe.config import EncoderConfig, MoEConfig
from mm_mhmoe.models import load
from mm_mhmoe.models.tasks import PretrainModel
from mm_mhmoe.models.upcycling import to_sparse
from mm_mhmoe.models.visual_tokenizer import VisualTokenizer
from mm_mhmoe.objectives.masked import masked_losses
from mm_mhmoe.objectives.picture_targets import CodeTarget
from mm_mhmoe.objectives.sparse import auxiliary_losses, weighted_auxiliary
from mm_mhmoe.training.optim import OptimConfig, build_optimizer

Weights = dict[str, Tensor]


def fresh(dense: PretrainModel, target: EncoderConfig) -> Weights:
    """The dense model with random sparse layers: what upcycling has to beat."""
    torch.manual_seed(0)
    made = PretrainModel(target, dense.num_codes).state_dict()
    return made | {name: value.clone() for name, value in dense.state_dict().items() if name in made}


def variants(dense: PretrainModel, inputs: dict[int, Tensor]) -> dict[str, tuple[EncoderConfig, Weights]]:
    config, weights = dense.config, dense.state_dict()
    copies = MoEConfig(num_experts=8, top_k=2, parity="none", hidden_dim=config.ffn_dim)
    moe, heads = replace(config, ffn="moe", moe=copies), replace(config, ffn="mh_moe", moe=MoEConfig())
    top_1 = replace(moe, moe=replace(copies, top_k=1))
    return {
        "dense": (config, weights),
        "moe, top-2, copies": to_sparse(config, weights, moe),
        "moe, top-2, fresh": (moe, fresh(dense, moe)),
        "moe, top-1, copies": to_sparse(config, weights, top_1),
        "moe, top-1, copies and one shared": to_sparse(
            config, weights, replace(moe, moe=replace(copies, top_k=1, shared_experts=1))
        ),
        "mh_moe, 4 heads, fitted on pairs": to_sparse(config, weights, heads, inputs=inputs),
        "mh_moe, 4 heads, fitted on random inputs": to_sparse(config, weights, heads),
        "mh_moe, 4 heads, fresh": (heads, fresh(dense, heads)),
    }


@torch.no_grad()
def evaluate(model: PretrainModel, codes: CodeTarget, batches: Sequence[PretrainBatch]) -> float:
    """Sum of the masked losses, averaged over batches."""
    model.eval()
    losses = [sum(part.loss for part in masked_losses(model, codes, batch)[0].values()) for batch in batches]
    return float(sum(losses) / len(losses))


@torch.no_grad()
def missed(ours: PretrainModel, dense: PretrainModel, inputs: dict[int, Tensor]) -> float:
    """Squared distance of the FFNs' outputs over their variance, mean over sparse layers: 0 is the same function."""
    shares = []
    for layer in range(dense.config.depth):
        if ours.config.is_sparse(layer):
            y_TD, _ = ours.encoder.blocks[layer].ffn(inputs[layer])
            shares.append(share(y_TD, dense.encoder.blocks[layer].ffn(inputs[layer])))
    return sum(shares) / len(shares) if shares else 0.0


@torch.no_grad()
def missed_by_linear_maps(dense: PretrainModel, seen: dict[int, Tensor], unseen: dict[int, Tensor]) -> float:
    """The same share for the least-squares linear map in place of each FFN that would become sparse."""
    shares = []
    for layer in range(1, dense.config.depth, 2):
        ffn = dense.encoder.blocks[layer].ffn
        x_TD, test_TD = (F.pad(inputs[layer], (0, 1), value=1.0).double() for inputs in (seen, unseen))
        map_DD = torch.linalg.lstsq(x_TD, ffn(seen[layer]).double(), driver="gelsd").solution
        shares.append(share(test_TD @ map_DD, ffn(unseen[layer]).double()))
    return sum(shares) / len(shares)


def share(y_TD: Tensor, wanted_TD: Tensor) -> float:
    return float((y_TD - wanted_TD).square().sum() / (wanted_TD - wanted_TD.mean(dim=0)).square().sum())


def train(model: PretrainModel, codes: CodeTarget, batches: Sequence[PretrainBatch]) -> None:
    model.train()
    optim = OptimConfig(lr=3e-4, warmup_steps=len(batches) // 10, weight_decay=0.05)
    made = build_optimizer(model, optim, steps=len(batches), depth=model.config.depth)
    optimizer, schedule = made["optimizer"], made["lr_scheduler"]["scheduler"]
    for batch in batches:
        losses, output = masked_losses(model, codes, batch)
        loss = torch.stack([part.loss for part in losses.values()]).sum()
        loss = loss + weighted_auxiliary(auxiliary_losses(output.routing, model.config.moe), model.config.moe)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), optim.clip_norm)
        optimizer.step()
        schedule.step()


def main(model: str, visual_tokenizer: str, steps: int = 60, val_batches: int = 4, pairs: int = 128) -> dict[str, list]:
    """Prints a table and gives its rows: share missed, loss before training, loss after it."""
    dense, tokenizer = load(model), load(visual_tokenizer)
    assert isinstance(dense, PretrainModel) and isinstance(tokenizer, VisualTokenizer)
    codes = CodeTarget(tokenizer)
    data = PretrainDataModule(
        data_path("demo:train"),
        Tokenizer.load(Path(model)),
        dense.vision,
        dense.text,
        batch_images=12,
        batch_texts=8,
        batch_pairs=20,
        num_steps=steps,
        seed=7,
        val_shards=data_path("demo:val"),
    )
    data.setup("fit")
    batches = [data.make_batch(step) for step in range(steps)]
    held_out = [batch for _, batch in zip(range(val_batches), data.val_dataloader(), strict=False)]
    seen, unseen = (
        ffn_inputs(dense, probe_streams(dense, Path(model), shards, pairs=pairs))
        for shards in ("demo:train", "demo:val")
    )
    print(f"linear maps miss {missed_by_linear_maps(dense, seen, unseen):.3f} of the dense FFNs")
    rows = {}
    print(f"{'':42} missed   loss   after {steps} steps")
    for name, (config, weights) in variants(dense, seen).items():
        ours = PretrainModel(config, dense.num_codes)
        ours.load_state_dict(weights)
        row = [missed(ours.eval(), dense, unseen), evaluate(ours, codes, held_out)]
        torch.manual_seed(0)
        train(ours, codes, batches)
        rows[name] = [*row, evaluate(ours, codes, held_out)]
        print(f"{name:42} {rows[name][0]:6.3f} {rows[name][1]:6.3f} {rows[name][2]:6.3f}", flush=True)
    return rows


if __name__ == "__main__":
    main(*sys.argv[1:3])
