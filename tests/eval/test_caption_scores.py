"""Truth: pycocoevalcap 1.2 with its Java programs (tests/golden/make_pycocoevalcap.py), live where it is installed; the
longest common subsequence by trying all; resampled sets scored anew."""

import json
from itertools import combinations
from pathlib import Path

import pytest
import torch
from mm_mhmoe_data.pipeline import ShardDataset
from mm_mhmoe_eval.captions import official, score_captions
from mm_mhmoe_eval.captions.bleu import bleu, bleu_sums
from mm_mhmoe_eval.captions.cider import Cider
from mm_mhmoe_eval.captions.rouge import rouge_l
from mm_mhmoe_eval.captions.tokens import split_words

from mm_mhmoe.commands.sources import data_path

GOLDEN = json.loads((Path(__file__).parents[1] / "golden" / "pycocoevalcap.json").read_text())
WORDS, REFERENCES, SCORES = GOLDEN["caption_words"], GOLDEN["reference_words"], GOLDEN["scores"]


def test_cider_equals_cocos():
    cider = Cider(REFERENCES)
    each = [cider.score(caption, own) for caption, own in zip(WORDS, REFERENCES, strict=True)]
    assert each == pytest.approx(SCORES["cider"]["each"], rel=1e-9, abs=1e-12)
    assert sum(each) / len(each) == pytest.approx(SCORES["cider"]["together"])


def test_rouge_equals_cocos():
    each = [rouge_l(caption, own) for caption, own in zip(WORDS, REFERENCES, strict=True)]
    assert each == pytest.approx(SCORES["rouge_l"]["each"], rel=1e-9, abs=1e-12)


def test_bleu_equals_cocos():
    found = bleu(bleu_sums(WORDS, REFERENCES).sum(0, keepdim=True))[0].tolist()
    assert found == pytest.approx([SCORES[f"bleu_{size}"]["together"] for size in (1, 2, 3, 4)], rel=1e-9)


def test_words_are_the_official_ones_here():
    cut = [split_words(caption) for caption in GOLDEN["captions"]]
    assert cut == WORDS
    assert [[split_words(said) for said in own] for own in GOLDEN["references"]] == REFERENCES


@pytest.mark.parametrize(("first", "second"), combinations(["abcab", "bca", "aabb", "", "cabac"], 2))
def test_longest_common_subsequence(first, second):
    def subsequences(text):
        return {c for size in range(len(text) + 1) for c in combinations(text, size)}

    longest = max(len(common) for common in subsequences(first) & subsequences(second))
    precision, recall = longest / max(1, len(first)), longest / max(1, len(second))
    f_measure = 2.44 * precision * recall / (recall + 1.44 * precision) if longest else 0.0
    assert rouge_l(list(first), [list(second)]) == pytest.approx(f_measure)


def test_one_picture_has_no_rare_words():
    assert Cider([[["a", "cat"]]]).score(["a", "cat"], [["a", "cat"]]) == 0.0


def test_the_most_typical_caption_is_the_one_most_like_the_others():
    """By scoring every caption against all of them."""
    said = [own[0] for own in REFERENCES] + [["a", "red", "car"], ["a", "red", "fence"], ["a", "red", "car", "parked"]]
    cider = Cider([[caption] for caption in said])

    def likeness(caption):
        ours = cider._direction(caption)
        return sum(weight * cider._direction(other).get(ngram, 0) for other in said for ngram, weight in ours.items())

    typical = cider.most_typical(said)
    assert likeness(typical) == pytest.approx(max(likeness(caption) for caption in said))
    assert list(typical)[:2] == ["a", "red"]
    with pytest.raises(ValueError, match="no captions"):
        cider.most_typical([])


def test_scores_have_names_that_say_whose_words_they_are_of(monkeypatch):
    monkeypatch.setattr(official, "missing", lambda: "Java")
    scores = score_captions(GOLDEN["captions"], GOLDEN["references"])
    assert set(scores.metrics) == {
        *(f"bleu_{size}_python" for size in (1, 2, 3, 4)),
        "cider_python",
        "rouge_l_python",
    }
    assert scores.metrics["cider_python"] == pytest.approx(SCORES["cider"]["together"])
    assert all(len(values) == len(WORDS) for values in scores.per_sample.values())
    for name in ("cider_python", "rouge_l_python", "bleu_4_python"):
        low, high = scores.intervals[name]
        assert low < scores.metrics[name] < high


def test_interval_of_bleu_is_that_of_resampled_sets(monkeypatch):
    """The bootstrap of results.py with the same draws, each drawn set scored anew."""
    monkeypatch.setattr(official, "missing", lambda: "Java")
    scores = score_captions(GOLDEN["captions"], GOLDEN["references"])
    each, generator, resampled, left = bleu_sums(WORDS, REFERENCES), torch.Generator().manual_seed(0), [], 1000
    while left:
        for drawn in torch.randint(len(WORDS), (min(64, left), len(WORDS)), generator=generator).tolist():
            resampled.append(bleu(sum(each[n] for n in drawn).unsqueeze(0))[0, 3].item())
        left -= min(64, left)
    wanted = torch.tensor(resampled, dtype=torch.float64).quantile(torch.tensor([0.025, 0.975], dtype=torch.float64))
    assert scores.intervals["bleu_4_python"] == pytest.approx(wanted.tolist(), rel=1e-6)


@pytest.mark.skipif(official.missing() is not None, reason=f"COCO's scorers need {official.missing()}")
def test_live_against_pycocoevalcap():
    """On the demo's captions, each against those of the pictures before it."""
    dataset = ShardDataset(str(data_path("demo:test")))
    said = [dataset.caption(index) for index in range(120)]
    captions, references = said[3:], [said[n - 3 : n] for n in range(3, 120)]
    found = score_captions(captions, references)
    for name in ("cider", "rouge_l", "bleu_1", "bleu_2", "bleu_3", "bleu_4"):
        assert found.metrics[name] == pytest.approx(found.metrics[f"{name}_python"], rel=1e-9)
        if name in ("cider", "rouge_l"):
            assert found.per_sample[name] == pytest.approx(found.per_sample[f"{name}_python"], rel=1e-9)
    assert 0 < found.metrics["meteor"] < 1


def test_says_what_is_missing(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert "mm-mhmoe[captions]" in official.missing()
    monkeypatch.setattr("importlib.util.find_spec", lambda name: name)
    monkeypatch.setattr("shutil.which", lambda name: None)
    assert "Java" in official.missing()
