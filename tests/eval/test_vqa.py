from __future__ import annotations

import hashlib
import json
import random
from dataclasses import dataclass, replace
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mm_mhmoe_data.vqa_normalise import normalise, normalise_punctuation
from mm_mhmoe_eval.vqa import Rules, official_results, question_only_baseline, vqa_accuracy, vqa_scores


@dataclass(frozen=True)
class Asked:
    question_id: int
    question: str = "what is this"
    question_type: str = "what is"
    answer_type: str = "other"
    answers: tuple[str, ...] = ("dog",) * 10


def brute_force(prediction: str, answers: list[str]) -> float:
    """The formula, set by set: leave each person out, min(matches among the others / 3, 1), mean."""
    if len(set(answers)) > 1:
        prediction, answers = normalise(prediction), [normalise(answer) for answer in answers]
    total = 0.0
    for left_out in range(len(answers)):
        others = [answer for person, answer in enumerate(answers) if person != left_out]
        total += min(sum(answer == prediction for answer in others) / 3, 1)
    return total / len(answers)


WORDS = st.sampled_from(["dog", "Dog", "the dog", "dog.", "two", "2", "cat", "a cat", "yes"])


@settings(max_examples=200, deadline=None)
@given(WORDS, st.lists(WORDS, min_size=4, max_size=12))
def test_accuracy_equals_the_formula(prediction: str, answers: list[str]) -> None:
    assert vqa_accuracy(prediction, answers) == pytest.approx(brute_force(prediction, answers))


# With ten answers: m matches are min(m, 3)/3 seen by those who differ, min(m - 1, 3)/3 by the m who agree.
@pytest.mark.parametrize(
    ("matches", "expected"),
    [(0, 0.0), (1, 0.3), (2, 0.6), (3, 0.9), (4, 1.0), (9, 1.0), (10, 1.0)],
)
def test_accuracy_of_ten_people(matches: int, expected: float) -> None:
    answers = ["dog"] * matches + [f"other {i}" for i in range(10 - matches)]
    assert vqa_accuracy("dog", answers) == pytest.approx(expected)


GOLDEN = Path(__file__).parents[1] / "golden"


@pytest.mark.parametrize("rules", ["2021", "2017"])
def test_official_scores_of_ten_thousand_answer_sets(rules: Rules) -> None:
    """Golden scores of the official code in both of its states (tests/golden/make_vqa_official.py)."""
    golden = json.loads((GOLDEN / "vqa_official.json").read_text())
    specification = spec_from_file_location("vqa_answer_sets", GOLDEN / "vqa_answer_sets.py")
    assert specification is not None and specification.loader is not None
    module = module_from_spec(specification)
    specification.loader.exec_module(module)
    sets = module.answer_sets(10_000)
    assert hashlib.sha256(json.dumps(sets).encode()).hexdigest() == golden["sets"]  # the same sets as then
    examples = [
        Asked(
            n, question_type=f"question type {n % 7}", answer_type=("yes/no", "number", "other")[n % 3], answers=answers
        )
        for n, (_, answers) in enumerate(sets)
    ]
    scores = vqa_scores({n: prediction for n, (prediction, _) in enumerate(sets)}, examples, rules=rules)
    official = golden[rules]
    wanted = [int(digit, 36) / 30 for digit in official["scores"]]
    assert {0.0, 0.3, 0.6, 0.9, 1.0} <= set(wanted)
    assert [scores.by_question[n] for n in range(len(sets))] == pytest.approx(wanted)
    assert 100 * scores.overall == pytest.approx(official["overall"], abs=1e-6)
    for found, name in ((scores.by_question_type, "question_types"), (scores.by_answer_type, "answer_types")):
        assert {k: 100 * v for k, v in found.items()} == pytest.approx(official[name], abs=1e-6)


def test_normalisation_only_where_people_differ() -> None:
    agree, differ = ["a dog"] * 10, ["a dog"] * 9 + ["cat"]
    assert vqa_accuracy("dog", agree) == 0.0
    assert vqa_accuracy("a dog", agree) == 1.0
    assert vqa_accuracy("dog", differ) == 1.0
    assert vqa_accuracy(" a dog\n", agree) == 1.0


def test_rules_of_2017() -> None:
    # The prediction always is; of the ground truth only the punctuation, and only where people differ.
    assert vqa_accuracy("a dog", ["a dog"] * 10, rules="2017") == 0.0
    assert vqa_accuracy("A dog", ["dog"] * 10, rules="2017") == 1.0
    differ = ["t-shirt"] * 9 + ["a t-shirt"]
    assert normalise_punctuation("t-shirt") == "t shirt"
    assert vqa_accuracy("t-shirt", differ, rules="2017") == 1.0
    assert vqa_accuracy("t-shirt", ["t-shirt"] * 10, rules="2017") == 0.0
    with pytest.raises(ValueError, match="rules"):
        vqa_accuracy("x", ["x"] * 10, rules="2020")  # type: ignore[arg-type]


def test_too_few_answers_are_refused() -> None:
    with pytest.raises(ValueError, match="at least 4"):
        vqa_accuracy("dog", ["dog"])


def test_scores_by_type() -> None:
    examples = [
        Asked(1, answer_type="yes/no", question_type="is it"),
        Asked(2, answer_type="other"),
        Asked(3, answer_type="other", answers=("dog",) * 2 + ("cat",) * 8),
    ]
    scores = vqa_scores({1: "dog", 2: "cat", 3: "dog", 99: "unused"}, examples)
    assert scores.overall == pytest.approx((1 + 0 + 0.6) / 3)
    assert scores.by_answer_type == pytest.approx({"yes/no": 1.0, "other": 0.3})
    assert scores.by_question_type == pytest.approx({"is it": 1.0, "what is": 0.3})
    assert scores.question_type_counts == {"is it": 1, "what is": 2}
    assert scores.metrics()["vqa_answer_type/other"] == pytest.approx(0.3)
    assert scores.by_question == pytest.approx({1: 1.0, 2: 0.0, 3: 0.6})


@pytest.mark.parametrize(
    ("predictions", "examples", "message"),
    [({}, [Asked(1)], "no prediction"), ({1: "x"}, [Asked(1), Asked(1)], "twice"), ({}, [], "no question")],
)
def test_incomplete_input_is_refused(predictions: dict[int, str], examples: list[Asked], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        vqa_scores(predictions, examples)


def test_question_only_falls_back_step_by_step() -> None:
    train = [
        Asked(1, question="What is it?", answers=("dog",) * 10),
        Asked(2, question="What is it?", answers=("dog",) * 10),
        Asked(3, question="What is it?", answers=("cat",) * 10),
        Asked(4, question="What is that?", answers=("cat",) * 10),
        Asked(5, question="What is there?", answers=("cat",) * 10),
        *(Asked(i, question="Is it red?", question_type="is it", answers=("yes",) * 10) for i in range(6, 12)),
    ]
    test = [
        Asked(20, question=" what  is IT?"),
        Asked(21, question="What is this thing?", answers=("cat",) * 10),
        Asked(22, question="Why?", question_type="why", answers=("yes",) * 10),
    ]
    baseline = question_only_baseline(train, test)
    assert baseline.predictions == {20: "dog", 21: "cat", 22: "yes"}
    assert baseline.rule_counts == {"question": 1, "question_type": 1, "all": 1}
    assert baseline.scores.overall == 1.0


def test_question_only_maximises_the_score_not_the_count() -> None:
    # "red" is said most (10 + 2), but "blue" scores 1 on two of the three questions, "red" 1 + 0.3 + 0.3.
    train = [
        Asked(1, answers=("red",) * 10),
        Asked(2, answers=("blue",) * 4 + ("red",) + ("green",) * 2 + ("pink", "grey", "black")),
        Asked(3, answers=("blue",) * 4 + ("red",) + ("green",) * 2 + ("pink", "grey", "black")),
    ]
    assert question_only_baseline(train, [Asked(9)]).predictions == {9: "blue"}


def test_question_only_does_not_depend_on_order() -> None:
    rng = random.Random(0)
    train = [Asked(i, answers=(rng.choice("abcd"),) * 10) for i in range(30)]
    shuffled = train[:]
    rng.shuffle(shuffled)
    test = [Asked(100), replace(Asked(101), question="another")]
    assert question_only_baseline(train, test).predictions == question_only_baseline(shuffled, test).predictions
    with pytest.raises(ValueError, match="at least one"):
        question_only_baseline([], test)


def test_official_results() -> None:
    assert official_results({2: "yes", 1: "no"}) == [
        {"question_id": 1, "answer": "no"},
        {"question_id": 2, "answer": "yes"},
    ]
