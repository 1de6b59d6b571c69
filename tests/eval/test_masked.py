"""Perplexity of hidden positions, against models whose perplexity is known."""

from __future__ import annotations

import math
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from mm_mhmoe_eval.kinds import ScoredData
from mm_mhmoe_eval.kinds.masked import score

from mm_mhmoe.batch import ImageTextBatch
from mm_mhmoe.commands.sources import data_path
from mm_mhmoe.config import TextConfig, VisionConfig
from mm_mhmoe.objectives.held_out import HiddenPredictions

PAIRS = 8


class Guesser:
    """Finds the right one of 7 classes by chance, but knows what is hidden in the first sample of each batch."""

    vision = VisionConfig(image_size=32, patch_size=8)
    text = TextConfig(vocab_size=64, max_length=12)

    def __init__(self, *, knows_first: bool = False) -> None:
        self.knows_first = knows_first
        self.seen: list[tuple[str, str, list[int]]] = []

    def predict_hidden(self, batch: ImageTextBatch, stream: str) -> dict[str, HiddenPredictions]:
        found = {}
        masks = {
            "image": batch.images.masked_BN if batch.images else None,
            "text": batch.texts.masked_BL if batch.texts else None,
        }
        for name, masked in masks.items():
            if masked is None:
                continue
            assert batch.keys
            for key, row in zip(batch.keys, masked, strict=True):
                self.seen.append((stream, f"{key}/{name}", row.nonzero()[:, 0].tolist()))
            rows_M = masked.nonzero()[:, 0]
            known_M = (rows_M == 0) & self.knows_first
            nats_M = torch.where(known_M, 0.0, math.log(7))
            found[f"{stream}_{name}" if stream == "pairs" else stream] = HiddenPredictions(rows_M, nats_M, known_M)
        return found


class Words:
    """A token a letter."""

    def encode(self, text: str, max_length: int) -> list[int]:
        return [0, *(5 + ord(letter) % 50 for letter in text[: max_length - 2]), 2]


@pytest.fixture
def data() -> ScoredData:
    paths = {"test": data_path("demo:test")}
    return ScoredData(paths=paths, tokenizer=Words(), batch_size=3, limit=PAIRS, device="cpu")


def test_a_guess_among_seven_has_perplexity_seven(data: ScoredData) -> None:
    scored = score(Guesser(), data)
    for name in ("images", "texts", "pairs_image", "pairs_text"):
        assert scored.metrics[f"{name}_perplexity"] == pytest.approx(7)
        assert scored.intervals[f"{name}_perplexity"] == pytest.approx([7, 7])
        assert scored.per_sample[f"{name}_nats"] == pytest.approx([math.log(7)] * PAIRS)
    assert scored.metrics["perplexity"] == pytest.approx(7)
    # 40% of 16 patches, rounded, in two streams
    assert scored.metrics["images_hidden_count"] == scored.metrics["pairs_image_hidden_count"] == PAIRS * round(6.4)


def test_positions_weigh_the_same_whatever_their_sample(data: ScoredData) -> None:
    scored = score(Guesser(knows_first=True), data)
    # Batches of three begin with samples 0, 3 and 6, whose positions cost nothing.
    share = scored.metrics["pairs_text_accuracy"]
    assert 0 < share < 1
    assert scored.metrics["pairs_text_perplexity"] == pytest.approx(math.exp((1 - share) * math.log(7)))
    assert [n for n, nats in enumerate(scored.per_sample["pairs_text_nats"]) if nats == 0] == [0, 3, 6]
    low, high = scored.intervals["pairs_text_perplexity"]
    assert low < scored.metrics["pairs_text_perplexity"] < high


def test_masks_depend_on_the_sample_alone(data: ScoredData) -> None:
    models = [Guesser(), Guesser()]
    score(models[0], data)
    score(models[1], replace(data, batch_size=8, limit=5))
    first = {(stream, key): row for stream, key, row in models[0].seen}
    second = {(stream, key): row for stream, key, row in models[1].seen}
    assert len(second) == 5 * 4
    assert all(first[key] == row for key, row in second.items())


def test_a_model_of_another_kind_is_refused(data: ScoredData) -> None:
    with pytest.raises(ValueError, match="needs a pretrained model"):
        score(SimpleNamespace(embed_texts=None), data)
