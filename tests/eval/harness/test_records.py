"""Truth: results of lm-eval 0.4.13, cut to what is read of them, and scores by hand."""

from __future__ import annotations

import math
from copy import deepcopy

import pytest
from mm_mhmoe_eval.comparison.comparable import check_comparable
from mm_mhmoe_eval.comparison.systems import read_systems
from mm_mhmoe_eval.comparison.tables import compare
from mm_mhmoe_eval.harness.records import evaluations
from mm_mhmoe_eval.metric_names import is_share, lower_is_better
from mm_mhmoe_eval.results import read_record
from mm_mhmoe_eval.runner import ModelFacts, write_evaluation

HASHES = {"prompt_hash": "p", "target_hash": "t", "filter": "none"}
RESULTS = {
    "results": {
        "choose": {"alias": "choose", "acc,none": 0.5, "acc_stderr,none": "N/A", "sample_len": 4},
        "roll": {"alias": "roll", "word_perplexity,none": math.exp(2), "bits_per_byte,none": 0.5 / math.log(2)},
        "write": {"alias": "write", "exact_match,strict": 0.25, "bleu,strict": 30.0},
        "both": {"alias": "both", "acc,none": 0.5},
        "nothing": {"alias": "nothing", "sample_len": 2},
    },
    "group_subtasks": {"both": ["choose", "roll"], "nothing": ["roll"]},
    "versions": {"choose": 2.0, "roll": "Yaml", "write": 1.1, "both": "N/A"},
    "n-shot": {"choose": 3, "roll": 0, "write": 0},
    "n-samples": {
        name: {"original": 9, "effective": count} for name, count in (("choose", 4), ("roll", 2), ("write", 4))
    },
    "samples": {
        "choose": [
            {"doc_hash": str(n), "metrics": ["acc", "f1"], "acc": value, "f1": (1, 0), **HASHES}
            for n, value in enumerate([1.0, 0.0, 1.0, 0.0])
        ],
        "roll": [
            {
                "doc_hash": str(n),
                "metrics": ["word_perplexity", "bits_per_byte"],
                "word_perplexity": (nats, words),
                "bits_per_byte": (nats, 4 * words),
                **HASHES,
            }
            for n, (nats, words) in enumerate([(-3.0, 3), (-9.0, 3)])
        ],
        "write": [
            {"doc_hash": str(n), "metrics": ["exact_match"], "exact_match": value, **HASHES, "filter": "strict"}
            for n, value in enumerate([True, False, False, False])
        ],
    },
}
HOW = {"seed": 5, "config": {"batch_size": 8, "limit": None}, "lm_eval_version": "0.4.13", "seconds": 5.0}


def records(results=RESULTS, model="mine"):
    facts = ModelFacts(name=model, config={"dim": 16}, checksums={"tokenizer.model": f"of {model}"})
    return {found.record.task: found for found in evaluations(results, facts=facts, **HOW)}


def test_a_record_of_each_task_and_of_each_group_with_scores():
    found = records()
    assert sorted(found) == ["lm_eval:both", "lm_eval:choose", "lm_eval:roll", "lm_eval:write"]
    choose = found["lm_eval:choose"].record
    assert (choose.kind, choose.task_version, choose.samples, choose.seed) == ("lm_eval", 2, 4, 5)
    assert choose.config["options"] == {"num_fewshot": 3, "version": "2.0"} and choose.config["limit"] is None
    assert choose.environment["lm_eval"] == "0.4.13"
    assert choose.metrics == {"acc": 0.5} and choose.headline == ["acc"]
    assert choose.per_sample == {"acc": [1.0, 0.0, 1.0, 0.0]}
    assert choose.intervals["acc"][0] < 0.5 < choose.intervals["acc"][1]
    assert (choose.wall_seconds, choose.samples_per_second) == (2.0, 2.0)  # ten samples in five seconds
    both = found["lm_eval:both"].record
    assert (both.samples, both.metrics, both.per_sample) == (6, {"acc": 0.5}, {})


def test_likelihoods_of_samples_are_nats_and_bits():
    record = records()["lm_eval:roll"].record
    assert record.per_sample == {
        "word_nats": [1.0, 3.0],
        "bits_per_byte": [round(0.25 / math.log(2), 4), round(0.75 / math.log(2), 4)],
    }
    assert record.intervals.keys() == {"bits_per_byte"}  # the texts are equally long: the mean of samples is the score


def test_a_filters_name_stays():
    record = records()["lm_eval:write"].record
    assert record.metrics == {"exact_match,strict": 0.25, "bleu,strict": 30.0}
    assert record.per_sample == {"exact_match,strict": [1.0, 0.0, 0.0, 0.0]}
    assert is_share("exact_match,strict") and not is_share("bleu,strict") and not is_share("word_perplexity")
    assert lower_is_better("word_perplexity,strict") and lower_is_better("ter") and not lower_is_better("acc,strict")


def test_records_are_read_back_and_compared(tmp_path):
    better = deepcopy(RESULTS)
    better["results"]["choose"]["acc,none"] = 1.0
    for sample in better["samples"]["choose"]:
        sample["acc"] = 1.0
    for name, results in (("a", RESULTS), ("b", better)):
        for found in records(results, model=name).values():
            path = write_evaluation(found, tmp_path / name, log_samples=True)
            assert read_record(path) == found.record and ":" not in path.name
    tables = {table.task: table for table in compare(read_systems([str(tmp_path / "a"), str(tmp_path / "b")]))}
    difference = tables["lm_eval:choose"].rows[1].cells["acc"].difference
    assert difference.value == 0.5 and difference.p is not None


def test_other_prompts_and_other_data_are_not_compared():
    """But other tokenizers are: words and bytes are the same."""
    ours, changed = records(), deepcopy(RESULTS)
    theirs = records(model="theirs")
    check_comparable("roll", [(n, [r["lm_eval:roll"].record]) for n, r in (("a", ours), ("b", theirs))])
    changed["samples"]["choose"][0]["prompt_hash"] = "with other examples"
    pair = [(n, [r["lm_eval:choose"].record]) for n, r in (("a", ours), ("b", records(changed)))]
    with pytest.raises(ValueError, match=r"other data \(test differs\)"):
        check_comparable("choose", pair)
