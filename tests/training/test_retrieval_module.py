"""Truth: the same batch without chunks; objectives/matching.py, which has its own tests, for the match head's loss."""

from __future__ import annotations

import torch

from mm_mhmoe.models.tasks import RetrievalModel
from mm_mhmoe.objectives.contrastive import info_nce, similarities
from mm_mhmoe.objectives.matching import matching_loss, matching_pairs
from mm_mhmoe.training.modules import RetrievalModule
from mm_mhmoe.training.optim import OptimConfig


def test_matching_in_chunks(config, stream) -> None:
    torch.manual_seed(0)
    model = RetrievalModel(config(ffn="dense"), embed_dim=8, match=True).double()
    batch, found = stream(rows=5, dtype=torch.float64), {}
    for chunk in (None, 2):
        module = RetrievalModule(model, OptimConfig(warmup_steps=0), steps=1, chunk=chunk)
        values: dict[str, torch.Tensor] = {}
        module.log = lambda name, value, values=values, **_: values.__setitem__(name, value)  # there is no trainer
        model.zero_grad()
        torch.manual_seed(7)
        module.training_step(batch, 0)["loss"].backward()
        found[chunk] = values, {name: p.grad for name, p in model.named_parameters() if p.grad is not None}
    whole, chunked = found[None], found[2]
    assert 0 <= whole[0]["train/match_accuracy"] <= 1 and whole[1]["match_head.weight"].abs().max() > 1e-4
    torch.testing.assert_close(chunked[1], whole[1])
    image_BP, text_BP, _ = model(batch)
    torch.manual_seed(7)
    matched = matching_pairs(batch, similarities(image_BP, text_BP, model.head.scale))
    wanted = info_nce(image_BP, text_BP, model.head.scale)
    wanted = wanted + matching_loss(model.encoder(matched).streams[0].image_BND[:, 0], model.match_head).loss
    torch.testing.assert_close(whole[0]["train/loss"], wanted)
