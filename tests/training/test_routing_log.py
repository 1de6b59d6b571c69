"""Truth: the statistics of the batch that was trained on, told by the functions that loops have checked."""

import csv
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from mm_mhmoe.analysis.routing_stats import layer_loads
from mm_mhmoe.batch import ImageTextBatch
from mm_mhmoe.config import MoEConfig
from mm_mhmoe.models.tasks import RetrievalModel
from mm_mhmoe.training.modules import RetrievalModule
from mm_mhmoe.training.optim import OptimConfig
from mm_mhmoe.training.routing_log import RoutingLog, modality_sums, routing_values
from mm_mhmoe.training.run_warnings import RunWarnings

NAMES = {
    f"routing/{modality}/{name}"
    for modality in ("image", "text")
    for name in ("load_entropy", "max_over_mean", "active_0.1", "active_0.5", "active_0.9", "dropped", "alone",
                 "diversity", "reached")
}  # fmt: skip


def logged(out: Path) -> dict[int, dict[str, float]]:
    (path,) = (out / "logs" / "csv").glob("from_step_*/metrics.csv")
    with path.open(newline="") as file:
        rows = [row for row in csv.DictReader(file) if row.get("routing/image/diversity")]
    return {int(row["step"]): {k: float(v) for k, v in row.items() if k.startswith("routing/") and v} for row in rows}


@pytest.mark.parametrize(("every", "steps"), [(2, [0, 1, 3, 5]), (4, [0, 3]), (0, [])])
def test_written_at_the_first_step_and_then_every_so_many(train, tmp_path: Path, every: int, steps: list[int]) -> None:
    train(tmp_path, routing_every=every)
    found = logged(tmp_path)
    assert list(found) == steps
    for values in found.values():
        assert values.keys() == NAMES
        assert values["routing/text/dropped"] == 0.0 and 1.0 <= values["routing/text/diversity"] <= 4.0


def test_accumulated_batches_are_one_step(train, tmp_path: Path) -> None:
    train(tmp_path, steps=4, accumulate=3, routing_every=2)
    assert list(logged(tmp_path)) == [0, 1, 3]


def test_the_log_changes_nothing_about_the_training(train, vector, tmp_path: Path) -> None:
    on, off = (vector(train(tmp_path / str(every), routing_every=every)[0]) for every in (1, 0))
    assert torch.equal(on, off)


def test_values_of_the_first_step(train, stream, config, tmp_path: Path) -> None:
    """Routing comes before the first update, so the untrained model tells it, under the same stochastic depth."""
    train(tmp_path, steps=1, routing_every=1)
    torch.manual_seed(0)
    model = RetrievalModel(config(depth=3, drop_path=0.4), 4)
    torch.manual_seed(0)  # as StepSeed does for batch 0 of seed 0
    _, _, output = model.train()(stream(rows=4, seed=0))
    (load,) = layer_loads([output])
    (found,) = logged(tmp_path).values()
    for modality, counts in (("image", load.image_E), ("text", load.text_E)):
        assert found[f"routing/{modality}/max_over_mean"] == pytest.approx((counts.max() / counts.sum() * 4).item())


def half(batch: ImageTextBatch, rows: slice) -> ImageTextBatch:
    images, texts = batch.images, batch.texts
    assert images is not None and texts is not None
    return ImageTextBatch(
        images=type(images)(pixels_BCHW=images.pixels_BCHW[rows]),
        texts=type(texts)(ids_BL=texts.ids_BL[rows], valid_BL=texts.valid_BL[rows]),
    )


def test_ranks_together_are_one_large_batch(config, stream) -> None:
    torch.manual_seed(0)
    model = RetrievalModel(config(depth=4), 4).eval()
    batch = stream(rows=4)
    whole, first, second = (model(part)[2] for part in (batch, half(batch, slice(0, 1)), half(batch, slice(1, 4))))
    seen: list[torch.Tensor] = []

    def remember(flat: torch.Tensor) -> torch.Tensor:
        seen.append(flat)
        return flat

    routing_values(modality_sums(first, sum_over_ranks=remember), experts_choose=False)
    found = routing_values(modality_sums(second, sum_over_ranks=lambda flat: flat + seen[0]), experts_choose=False)
    assert found.keys() == NAMES
    assert found == pytest.approx(routing_values(modality_sums(whole), experts_choose=False))
    assert found != pytest.approx(routing_values(modality_sums(second), experts_choose=False))


def test_a_modality_without_tokens_is_left_out(config, stream) -> None:
    model = RetrievalModel(config(), 4)
    values = routing_values(modality_sums(model.encoder(stream("images"))), experts_choose=True)
    assert values.keys() == {n for n in NAMES if n.startswith("routing/image/") and not n.endswith("dropped")}


def test_a_dense_encoder_writes_nothing(config, stream) -> None:
    module = RetrievalModule(RetrievalModel(config(ffn="dense"), 4), OptimConfig(), steps=1)
    module.log = lambda *_, **__: None  # there is no trainer
    outputs = module.training_step(stream(), 0)
    trainer = SimpleNamespace(global_step=1)  # no loggers, no strategy: using them would raise
    RoutingLog(RunWarnings(Path()), every=1).on_train_batch_end(trainer, module, outputs, None, 0)  # type: ignore[arg-type]


def test_what_outlives_a_step_is_out_of_the_graph(config, stream) -> None:
    moe = MoEConfig(num_experts=4, heads=4, every=1)
    module = RetrievalModule(RetrievalModel(config(moe=moe), 4), OptimConfig(), steps=1)
    module.log = lambda *_, **__: None
    result = module.training_step(stream(), 0)
    assert result["loss"].requires_grad and result["output"].streams == () and len(result["output"].routing) == 2
    for _, routing in result["output"].routing:
        tensors = [value for value in vars(routing).values() if isinstance(value, torch.Tensor)]
        assert len(tensors) == 5 and not any(value.requires_grad for value in tensors)


def test_a_negative_rate_is_refused() -> None:
    with pytest.raises(ValueError, match="routing_every=-1"):
        RoutingLog(RunWarnings(Path()), every=-1)
