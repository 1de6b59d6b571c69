"""Truth: torch.utils.flop_counter on rows that are cut to their real length; the clock, replaced."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from unittest import mock

import pytest
import torch
import torch.nn.functional as F
from torch.utils.flop_counter import FlopCounterMode

from mm_mhmoe.analysis.cost import step_flops
from mm_mhmoe.analysis.workload import Workload
from mm_mhmoe.batch import ImageTextBatch, Texts
from mm_mhmoe.commands.run_logs import read_metrics
from mm_mhmoe.config import MoEConfig
from mm_mhmoe.models.tasks import RetrievalModel
from mm_mhmoe.objectives.captioning import caption_stream
from mm_mhmoe.training import throughput
from mm_mhmoe.training.modules import RetrievalModule
from mm_mhmoe.training.optim import OptimConfig
from mm_mhmoe.training.throughput import Utilisation, measured_peak, outline, real_work

MOE = MoEConfig(num_experts=4, heads=4, every=2, expert_bias=False)  # biases are added inside a product


def attention(query, key, value, attn_mask=None):
    """torch's reference formula: the counter does not know the CPU's fused kernel in every version."""
    scores = query @ key.transpose(-1, -2) / query.shape[-1] ** 0.5
    return scores.softmax(-1) @ value


def cut(stream: ImageTextBatch, row: int) -> ImageTextBatch:
    """One row without its padding."""
    one, texts = slice(row, row + 1), stream.texts
    assert texts is not None
    length = int(texts.valid_BL[row].sum())
    short = Texts(ids_BL=texts.ids_BL[one, :length], valid_BL=texts.valid_BL[one, :length])
    images = None if stream.images is None else replace(stream.images, pixels_BCHW=stream.images.pixels_BCHW[one])
    return ImageTextBatch(images=images, texts=short)


def test_padding_is_no_work(config, stream) -> None:
    chosen = config(depth=3, moe=MOE)
    model = RetrievalModel(chosen, 4)
    streams = [stream("images"), stream("texts", rows=5), stream("pairs", rows=4, seed=1)]
    counter = FlopCounterMode(display=False)
    with mock.patch.object(F, "scaled_dot_product_attention", attention), torch.no_grad(), counter:
        model.encoder(streams[0])
        for whole in streams[1:]:
            for row in range(len(whole)):
                model.encoder(cut(whole, row))
    work = real_work([outline(part) for part in streams], chosen)
    assert step_flops(chosen, work, 0).total == counter.get_total_flops()
    assert sum(rows * length for rows, length in work.rows) == 3 * 17 + 8 + 7 + 6 + 5 + 4 + 4 * 17 + 8 + 7 + 6 + 5


def test_without_padding_it_is_what_was_planned(config, stream) -> None:
    """The planner's numbers, which agree with torch's counter for a whole training step."""
    chosen = config(depth=3, moe=MOE)
    plan = Workload(batch_images=2, batch_texts=3, batch_pairs=4, image_mask=0.5, text_mask=2 / 6, pair_image_mask=0.25,
                    pair_text_mask=3 / 6, cls_loss=True)  # fmt: skip

    def hide(part: ImageTextBatch, patches: int, words: int) -> ImageTextBatch:
        images, texts = part.images, part.texts
        if images is not None:
            images = replace(images, masked_BN=(torch.arange(16) < patches).expand(len(images), 16))
        if texts is not None:
            texts = replace(texts, masked_BL=(torch.arange(8) < words).expand(len(texts), 8))
        return ImageTextBatch(images=images, texts=texts)

    streams = [
        hide(stream("images", rows=2), 8, 0),
        hide(stream("texts", rows=3, padded=False), 0, 2),
        hide(stream("pairs", rows=4, padded=False), 4, 3),
    ]
    work = real_work([outline(part) for part in streams], chosen, cls_loss=True)
    assert step_flops(chosen, work, 24) == step_flops(chosen, plan, 24)


def test_captions_without_padding_are_what_was_planned(config, stream) -> None:
    chosen, plan = config(), Workload(batch_pairs=4, pair_image_mask=0.5, pair_text_mask=3 / 6, caption_loss=True)
    pairs = stream("pairs", rows=4, padded=False)
    hidden = ImageTextBatch(
        images=replace(pairs.images, masked_BN=(torch.arange(16) < 8).expand(4, 16)),
        texts=replace(pairs.texts, masked_BL=(torch.arange(8) < 3).expand(4, 8)),
    )
    work = real_work([outline(hidden), outline(caption_stream(pairs))], chosen)
    assert step_flops(chosen, work, 24) == step_flops(chosen, plan, 24)


def test_padding_is_no_caption(config, stream) -> None:
    """Texts of 8, 7 and 6 tokens; the first is not predicted."""
    assert real_work([outline(caption_stream(stream("pairs")))], config()).captions == 7 + 6 + 5


def test_tokens_a_second_are_real_ones(config, stream, monkeypatch) -> None:
    """Three pictures of 17 tokens, and texts of 8, 7 and 6."""
    seen: list[int] = []
    monkeypatch.setattr(RetrievalModule, "log_step", lambda *_, tokens, **__: seen.append(int(tokens)))
    RetrievalModule(RetrievalModel(config(), 4), OptimConfig(), steps=1).training_step(stream("pairs"), 0)
    assert seen == [3 * 17 + 8 + 7 + 6]


@pytest.mark.parametrize("log_every", [1, 2])
def test_share_of_the_peak(config, stream, monkeypatch, log_every: int) -> None:
    """Two passes a step, of 2 s, on a device of 1 MFLOP/s. The first step has no beginning. Nothing is read from the
    device but at the steps that are logged."""
    chosen = config(depth=3, moe=MOE)
    batches = [stream("pairs", rows=2 + step) for step in range(5)]
    model = RetrievalModel(chosen, 4)
    logged: list[float] = []
    module = SimpleNamespace(model=model, device=torch.device("cpu"), log=lambda _, value, **__: logged.append(value))
    measured: list[torch.dtype] = []
    monkeypatch.setattr(throughput, "measured_peak", lambda _, dtype, __: measured.append(dtype) or 1e6)
    now, read = [100.0], []
    monkeypatch.setattr(throughput, "time", SimpleNamespace(monotonic=lambda: now[0]))
    monkeypatch.setattr(throughput, "real_work", lambda *given, **more: read.append(1) or real_work(*given, **more))
    callback = Utilisation(every=log_every)
    callback.on_train_start(SimpleNamespace(precision="bf16-mixed"), module)  # type: ignore[arg-type]
    assert measured == [torch.bfloat16]
    for step, batch in enumerate(batches):
        callback.on_train_batch_start(SimpleNamespace(global_step=step))  # type: ignore[arg-type]
        for micro in range(2):
            model.encoder(batch)
            now[0] += 1.0
            callback.on_train_batch_end(SimpleNamespace(global_step=step + micro), module)  # type: ignore[arg-type]
        assert len(read) == 2 * max(0, (step + 1) // log_every * log_every - 1)
        with torch.no_grad():
            model.encoder(batch)  # validation is no training
    callback.on_train_end(None, module)  # type: ignore[arg-type]
    flops = [2 * step_flops(chosen, real_work([outline(batch)], chosen), 0).training for batch in batches]
    windows = [flops[1:2], flops[2:3], flops[3:4], flops[4:5]] if log_every == 1 else [flops[1:2], flops[2:4]]
    assert logged == pytest.approx([sum(window) / (2.0 * len(window)) / 1e6 for window in windows])
    assert not model.encoder._forward_pre_hooks


def test_a_run_logs_it_and_draws_no_random_number_for_it(train, vector, tmp_path: Path, monkeypatch) -> None:
    # Lightning counts steps from 0, and the first has no beginning.
    for every, logged in ((1, [1, 2, 3, 4, 5]), (2, [1, 3, 5])):
        with_it, _ = train(tmp_path / f"every_{every}", log_every=every)
        (points,) = [v for k, v in read_metrics(tmp_path / f"every_{every}").items() if k == "train/mfu"]
        assert [step for step, _ in points] == logged and all(share > 0 for _, share in points)
    measured_peak.cache_clear()
    state = torch.get_rng_state()
    assert measured_peak(torch.device("cpu"), torch.float32, 1) > 0
    assert torch.equal(torch.get_rng_state(), state)
    monkeypatch.setattr(Utilisation, "on_train_start", lambda *_: None)
    without, _ = train(tmp_path / "without")
    assert torch.equal(vector(with_it), vector(without)) and "train/mfu" not in read_metrics(tmp_path / "without")


def test_fp16_on_a_cpu_is_held_against_bf16(train, tmp_path: Path, monkeypatch) -> None:
    """Truth: the type that the model's own products come out in."""
    measured: list[torch.dtype] = []
    made: list[torch.dtype] = []
    monkeypatch.setattr(throughput, "measured_peak", lambda _, dtype, __: measured.append(dtype) or 1e9)
    real = F.linear

    def linear(*arguments: torch.Tensor) -> torch.Tensor:
        product = real(*arguments)
        made.append(product.dtype)
        return product

    monkeypatch.setattr(F, "linear", linear)
    train(tmp_path, steps=1, precision="16-mixed")
    assert measured == [torch.bfloat16] and torch.bfloat16 in made and torch.float16 not in made
