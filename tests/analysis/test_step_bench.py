"""Truth: the FLOPs of analysis/cost.py and torch's own count of them; our encoder, for the plain one."""

from dataclasses import replace

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from mm_mhmoe.analysis.cost import step_flops
from mm_mhmoe.analysis.step_bench import (
    PlainEncoder,
    contestants,
    random_batch,
    run_products,
    split_states,
    step_products,
)
from mm_mhmoe.analysis.torchscale_beit3 import TorchscaleEncoder
from mm_mhmoe.analysis.workload import Workload
from mm_mhmoe.config import EncoderConfig, TextConfig, VisionConfig
from mm_mhmoe.models import build_encoder

CONFIG = EncoderConfig(
    dim=32,
    depth=2,
    num_heads=4,
    ffn_dim=128,
    ffn="dense",
    drop_path=0.0,
    vision=VisionConfig(image_size=16, patch_size=4),
    text=TextConfig(vocab_size=40, max_length=10),
)
WORK = Workload(batch_images=2, batch_texts=3, batch_pairs=2, text_mask=0.5)


@pytest.mark.parametrize("work", [WORK, Workload(batch_pairs=3)], ids=["streams", "pairs"])
def test_the_limit_has_the_flops_of_a_step(work: Workload) -> None:
    true = step_flops(CONFIG, work, 24)
    with FlopCounterMode(display=False) as counter:
        run_products(step_products(CONFIG, work, 24, heads=True), torch.float32)()
    assert counter.get_total_flops() == true.training
    with FlopCounterMode(display=False) as counter:
        run_products(step_products(CONFIG, work, 24, heads=False), torch.float32)()
    assert counter.get_total_flops() == true.training - 3 * true.task_heads


def test_batches_hide_what_the_workload_counts() -> None:
    batch = random_batch(CONFIG, WORK)
    images = [s.images for s in (batch.images, batch.pairs) if s is not None and s.images is not None]
    texts = [s.texts for s in (batch.texts, batch.pairs) if s is not None and s.texts is not None]
    assert sum(int(part.masked_BN.sum()) for part in images) == WORK.hidden_patches(CONFIG)
    assert sum(int(part.masked_BL.sum()) for part in texts) == WORK.hidden_words(CONFIG)
    assert not any(part.masked_BL[:, [0, -1]].any() for part in texts)


@pytest.mark.parametrize("name", ["images", "texts", "pairs"])
def test_the_plain_encoder_computes_what_ours_does(name: str) -> None:
    torch.manual_seed(0)
    ours = build_encoder(CONFIG).double()
    plain = PlainEncoder(ours, CONFIG).double()
    stream = getattr(random_batch(CONFIG, WORK), name)
    if stream.texts is not None:
        valid_BL = stream.texts.valid_BL.clone()
        valid_BL[0, 6:] = False
        stream = replace(stream, texts=replace(stream.texts, valid_BL=valid_BL))
    weight = "blocks.0.ffn.fc1.weight"
    results = []
    for encoder, states in (
        (ours, ours(stream).streams[0]),
        (plain, split_states(plain(stream), stream, CONFIG)),
    ):
        parts = torch.cat([part for part in states if part is not None], dim=1)
        (grad,) = torch.autograd.grad(parts.square().sum(), [encoder.get_parameter(weight)])
        results.append((parts, grad))
    torch.testing.assert_close(results[0], results[1])


def test_contestants_cost_what_the_dense_encoder_costs() -> None:
    """X-MoE's router projects to 16 dimensions first, which the FLOPs of small layers show."""
    costs = {}
    for name, config in contestants(CONFIG).items():
        flops = step_flops(config, WORK, 24)
        costs[name] = flops.total - flops.router
    assert costs.keys() == {"dense", "X-MoE", "MH-MoE"}
    assert set(costs.values()) == {costs["dense"]}


def test_a_missing_torchscale_says_how_to_get_it(tmp_path) -> None:
    with pytest.raises(ValueError, match=r"pip install --target .* torchscale==0\.3\.0"):
        TorchscaleEncoder(CONFIG, tmp_path)
