"""Truth: what NLVR2's official script printed (tests/golden/make_nlvr2_scores.py), and counting by hand."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from mm_mhmoe_eval.nlvr2 import (
    group_of,
    guessing_consistency,
    nlvr2_scores,
    predictions_csv,
    sentence_only_baseline,
)

GOLDEN = json.loads((Path(__file__).parents[1] / "golden" / "nlvr2_scores.json").read_text())


@dataclass(frozen=True)
class Judged:
    identifier: str
    label: bool
    sentence: str = "both show a dog"
    type: str = ""


OFFICIAL = [Judged(name, label == "True") for name, label in zip(GOLDEN["identifiers"], GOLDEN["labels"], strict=True)]


@pytest.mark.parametrize("case", GOLDEN["cases"], ids=lambda case: f"{case['accuracy']:.2f}")
def test_scores_are_the_official_ones(case: dict[str, Any]) -> None:
    said = dict(zip(GOLDEN["identifiers"], (value == "True" for value in case["predictions"]), strict=True))
    scores = nlvr2_scores(said, OFFICIAL)
    assert scores.accuracy == pytest.approx(case["accuracy"], abs=1e-12)
    assert scores.consistency == pytest.approx(case["consistency"], abs=1e-12)
    assert len(scores.by_group) < len(OFFICIAL)  # some sentences have several pairs


def test_the_file_of_predictions_is_what_the_official_script_was_given() -> None:
    assert predictions_csv({"dev-1-0-1": True, "dev-1-1-1": False}) == "dev-1-0-1,True\ndev-1-1-1,False\n"


def test_groups_and_types_by_hand() -> None:
    statements = [
        Judged("test-0-0-0", True, type="both"),
        Judged("test-0-1-0", False, type="both"),
        Judged("test-0-0-1", True, type="left"),  # another sentence about the first pair
        Judged("test-1-0-0", False, type="left"),
    ]
    scores = nlvr2_scores({s.identifier: True for s in statements}, statements)
    assert scores.accuracy == 0.5 and scores.consistency == pytest.approx(1 / 3)
    assert scores.by_statement == (True, False, True, False)
    assert scores.by_type == {"both": 0.5, "left": 0.5} and scores.type_counts == {"both": 2, "left": 2}
    # Groups of 2, 1 and 1: a coin is right about all with 1/4, 1/2, 1/2.
    assert guessing_consistency(s.identifier for s in statements) == pytest.approx((0.25 + 0.5 + 0.5) / 3)


def test_the_sentence_alone() -> None:
    train = [Judged(f"train-{i}-0-0", label, sentence) for i, (label, sentence) in enumerate(
        [(True, "A"), (True, "a"), (False, "a"), (False, "b"), (False, "c"), (False, "c")]
    )]  # fmt: skip
    test = [Judged("test-0-0-0", True, "A"), Judged("test-1-0-0", True, "b"), Judged("test-2-0-0", False, "new")]
    # "a" is mostly true, "b" false; overall false is commoner, which an unknown sentence gets.
    assert sentence_only_baseline(train, test).by_statement == (True, False, True)


def test_what_cannot_be_scored() -> None:
    with pytest.raises(ValueError, match="test-0-0-0 has no prediction"):
        nlvr2_scores({}, [Judged("test-0-0-0", True)])
    with pytest.raises(ValueError, match="twice"):
        nlvr2_scores({"test-0-0-0": True}, [Judged("test-0-0-0", True)] * 2)
    with pytest.raises(ValueError, match="no statement"):
        nlvr2_scores({}, [])
    with pytest.raises(ValueError, match="SPLIT-SET-PAIR-SENTENCE"):
        group_of("cat-7")
