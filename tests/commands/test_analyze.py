"""Truth: the statistics' own functions on the encoder's output; the docstrings of `mm-mhmoe analyze`."""

import json
from pathlib import Path

import pytest
import torch
from mm_mhmoe_data.ordered import iterate_pairs
from PIL import Image

from mm_mhmoe.analysis.load import active_share, load_entropy
from mm_mhmoe.analysis.routing_stats import layer_loads
from mm_mhmoe.commands.analyze import analyze
from mm_mhmoe.config import MoEConfig
from mm_mhmoe.models.checkpoints import load

FIGURES = {"activation.png", "expert_load.png", "diversity.png", "assignment_maps.png", "word_ambiguity.png"}


@pytest.fixture
def run(shards, tmp_path: Path):
    def call(model: str, out: str = "out", **options) -> dict:
        analyze(model, tmp_path / out, **{"shards": str(shards), "min_captions": 2, **options})
        return json.loads((tmp_path / out / "analysis.json").read_text())

    return call


@pytest.mark.parametrize("kind", ["pretrain", "retrieval", "vqa"])
def test_every_kind_of_model(run, saved, tmp_path: Path, kind: str) -> None:
    found = run(saved("m", kind))
    assert {path.name for path in (tmp_path / "out").iterdir()} == {*FIGURES, "analysis.json"}
    assert found["figures"].keys() == FIGURES and all(len(caption) > 80 for caption in found["figures"].values())
    for name in FIGURES:
        with Image.open(tmp_path / "out" / name) as picture:
            picture.load()
            assert picture.width > 600 and len(set(picture.convert("L").resize((60, 60)).getdata())) > 10
    (model,) = found["models"].values()
    assert model["kind"] == kind and model["heads"] == 4 and found["samples"] == 24
    assert model["mean"].keys() == {"image", "text", "cls", "patch", "begin", "word", "end"}
    assert len(model["words"]["words"]) >= 10
    assert any("no diversity over training" in sentence for sentence in found["left_out"])


def test_numbers_are_those_of_the_encoder(run, saved, dataset, tokenizer) -> None:
    source = saved("m")
    (found,) = run(source)["models"].values()
    model = load(source)
    with torch.no_grad():
        loads = layer_loads(
            model.encoder(batch) for batch in iterate_pairs(dataset, tokenizer, model.vision, model.text, 24)
        )
    assert found["layers"].keys() == {"1", "2"}
    assert found["loads"]["image"] == {str(load.layer + 1): load.image_E.tolist() for load in loads}
    for load_ in loads:
        layer = found["layers"][str(load_.layer + 1)]
        assert layer["text"]["load_entropy"] == pytest.approx(load_entropy(load_.text_E))
        assert layer["text"]["dropped"] == 0.0
    expected = sum(active_share(load_.all_E, 0.9) for load_ in loads) / 2
    assert found["activation"]["0.9"] == pytest.approx(expected)
    assert found["mean"]["image"]["diversity"] == pytest.approx(
        sum(layer["image"]["diversity"] for layer in found["layers"].values()) / 2
    )


def test_a_capacity_shows_in_what_is_dropped(run, saved) -> None:
    moe = MoEConfig(num_experts=5, top_k=2, heads=4, every=1, capacity_factor=0.5)
    (found,) = run(saved("m", moe=moe))["models"].values()
    assert 0.5 <= found["mean"]["image"]["dropped"] + 0.05 < 1.0


def test_expert_choice_drops_nothing_but_leaves_sub_tokens_alone(run, saved) -> None:
    moe = MoEConfig(num_experts=5, top_k=1, heads=4, every=1, router="expert_choice")
    (found,) = run(saved("m", moe=moe))["models"].values()
    assert "dropped" not in found["mean"]["image"] and found["mean"]["image"]["alone"] > 0.0
    # Each expert takes the same number of all tokens of a batch.
    together = [
        [i + t for i, t in zip(*rows, strict=True)]
        for rows in zip(*(own.values() for own in found["loads"].values()), strict=True)
    ]
    assert all(len(set(load_)) == 1 for load_ in together)


def test_experts_of_pictures_texts_and_pairs(run, saved, tmp_path: Path, capsys) -> None:
    """Two pools in the first layer, three in the second, of which pairs use their own; beside a model without pools."""
    source = saved("pools", multiway=True, vl_layers=1, moe=MoEConfig(num_experts=5, top_k=2, heads=4, every=1))
    found = run(source, compare=saved("one"))
    model = found["models"]["pools"]
    assert model["layers"].keys() == {"1 image", "1 text", "2 image", "2 text", "2 pair"}
    assert {m: list(own) for m, own in model["loads"].items()} == {
        "image": ["1 image", "2 pair"],
        "text": ["1 text", "2 pair"],
    }
    assert all(len(counts) == 5 for own in model["loads"].values() for counts in own.values())
    assert model["layers"]["2 image"]["image"] == model["layers"]["1 image"]["text"] == {}
    together = [i + t for i, t in zip(*(own["2 pair"] for own in model["loads"].values()), strict=True)]
    shares = [active_share(torch.tensor(c), 0.9) for c in (model["loads"]["image"]["1 image"],
                                                           model["loads"]["text"]["1 text"], together)]  # fmt: skip
    assert model["activation"]["0.9"] == pytest.approx(sum(shares) / 3)
    assert model["mean"]["image"]["load_entropy"] == pytest.approx(
        sum(model["layers"][place]["image"]["load_entropy"] for place in ("1 image", "2 pair")) / 2
    )
    assert 1.0 <= model["mean"]["word"]["diversity"] <= 4.0
    assert {path.name for path in (tmp_path / "out").iterdir()} == {*FIGURES, "analysis.json"}


def test_models_side_by_side(run, saved, capsys) -> None:
    """The same weights, others, a plain MoE and a dense one."""
    moe = MoEConfig(num_experts=4, top_k=1, every=1, router="xmoe")
    others = [saved("same"), saved("other", seed=1), saved("plain", ffn="moe", moe=moe), saved("dense", ffn="dense")]
    found = run(saved("m"), compare=",".join(others))
    assert list(found["models"]) == ["m", "same", "other", "plain", "dense"]
    assert "mean" not in found["models"]["dense"] and found["models"]["plain"]["uniform_diversity"] == 1.0
    assert [pair["second"] for pair in found["agreement"]] == ["same", "other", "plain"]
    same, other, plain = (pair["layers"]["2"]["image"] for pair in found["agreement"])
    assert same["equal"] == 1.0 and same["information"] == pytest.approx(1.0)
    assert same["best_head"] == pytest.approx(1.0) and same["equal_by_chance"] < 0.9
    assert other["equal"] < 0.9 and other["best_head"] < 0.9
    assert plain.keys() == {"best_head", "best_head_by_chance"}  # other experts, other heads
    out = capsys.readouterr().out
    assert "dense: dense feed-forward layers" in out and "plain" in out
    assert any(sentence.startswith("dense: ") for sentence in found["left_out"])
    assert any(sentence.startswith("m, same, other: no routing statistics") for sentence in found["left_out"])


def test_samples_are_a_seeded_draw(run, saved) -> None:
    source = saved("m")
    first, again, other = (run(source, f"o{i}", samples=5, seed=seed, pictures=0) for i, seed in enumerate((0, 0, 1)))
    assert first["samples"] == 5 and "assignment_maps.png" not in first["figures"]
    assert first["models"] == again["models"] and first["models"] != other["models"]


def test_another_text_is_not_compared(run, saved) -> None:
    from mm_mhmoe.config import TextConfig

    found = run(saved("m"), compare=saved("short", text=TextConfig(vocab_size=50, max_length=6)))
    (pair,) = found["agreement"]
    assert pair["not_compared"] == ["text"] and pair["layers"]["1"].keys() == {"image"}


def test_words_without_categories_are_left_out(run, saved) -> None:
    found = run(saved("m"), category="topic")
    assert "word_ambiguity.png" not in found["figures"]
    assert any("'topic'" in sentence and "--category" in sentence for sentence in found["left_out"])


def test_a_plain_moe_alone_has_no_diversity(run, saved) -> None:
    found = run(saved("m", ffn="moe"))
    assert found["figures"].keys() == {"activation.png", "expert_load.png"}
    assert any("No model splits its tokens" in sentence for sentence in found["left_out"])


def test_diversity_over_training_comes_from_the_logs(run, saved) -> None:
    source = saved("m")
    log = Path(source) / "logs" / "csv" / "from_step_00000000"
    log.mkdir(parents=True)
    (log / "metrics.csv").write_text("epoch,step,routing/image/diversity,train/loss\n,0,3.25,\n0,9,,1.5\n,19,3.0,\n")
    found = run(source)
    assert "diversity_training.png" in found["figures"]
    assert found["models"]["/".join(Path(source).parts[-2:])]["training"] == {"image": [[0, 3.25], [19, 3.0]]}


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"samples": 0}, "samples=0 must be 1 or more"),
        ({"min_captions": 1}, "min_captions=1"),
        ({"threshold": -1.0}, "threshold=-1.0"),
        ({"pictures": -1}, "pictures=-1"),
        ({"batch_size": 0}, "batch_size=0"),
    ],
)
def test_impossible_options_are_refused(run, saved, options: dict, named: str) -> None:
    with pytest.raises(ValueError, match=named):
        run(saved("m"), **options)


def test_a_dense_model_alone_is_one_sentence(run, saved, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"dense feed-forward layers only, so nothing is routed; give .*--compare"):
        run(saved("dense", ffn="dense"))
    assert not (tmp_path / "out").exists()


def test_a_model_given_twice_is_refused(run, saved) -> None:
    source = saved("m")
    with pytest.raises(ValueError, match="given twice"):
        run(source, compare=[source])
