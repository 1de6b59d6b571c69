"""Truth: models whose choices are known, and the documents that questions were made of."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import replace

import pytest
import torch
from mm_mhmoe_eval.kinds import KINDS
from mm_mhmoe_eval.kinds.language.choices import Question, score_choices
from mm_mhmoe_eval.kinds.language.questions import next_paragraph_questions, translation_questions

from mm_mhmoe.config import TextConfig, VisionConfig


class Repeater:
    """A token that the row has already costs 1 nat, a new one 3."""

    vision = VisionConfig()
    text = TextConfig(vocab_size=261, max_length=64)

    def token_nats(self, texts):
        nats = torch.zeros(texts.ids_BL.shape)
        for row, ids in enumerate(texts.ids_BL.tolist()):
            for place in range(1, len(ids)):
                nats[row, place] = 1.0 if ids[place] in ids[:place] else 3.0
        return nats.masked_fill(~texts.valid_BL, 0.0)[:, 1:]


QUESTIONS = [
    Question(key="a", group="x", context=("title", "abcd"), choices=("abcd", "efgh", "ijkl", "mnop"), answer=0),
    # by bytes "aaaaaaaa" is the likeliest; as a whole "ab"; and the context helps "abcdabcd" most
    Question(key="b", group="x", context=("abcd",), choices=("ab", "aaaaaaaa", "abcdabcd", "mnop"), answer=1),
    Question(key="c", group="y", context=("abcd",), choices=("ab", "aaaaaaaa", "abcdabcd", "mnop"), answer=2),
]


def test_three_rules_and_their_sums(data):
    """Nats by hand. Of b: behind "abcd" + end: ab 2 + its end 1; alone: 6 + 3 for its end."""
    scored = score_choices(Repeater(), QUESTIONS, data)
    assert scored.samples[1]["nats"] == [3.0, 9.0, 9.0, 13.0]
    assert scored.samples[1]["nats_alone"] == [9.0, 3.0 + 7.0 + 3.0, 12.0 + 4.0 + 3.0, 15.0]
    assert scored.per_sample["accuracy"] == [1.0, 0.0, 0.0]
    assert scored.per_sample["accuracy_per_byte"] == [1.0, 1.0, 0.0]
    assert scored.per_sample["accuracy_pmi"] == [1.0, 0.0, 1.0]
    assert scored.metrics["accuracy_pmi/y"] == 1.0 and scored.metrics["accuracy/x"] == 0.5
    assert scored.metrics["chance/accuracy"] == 0.25 and scored.metrics["count/x"] == 2.0


def test_the_baselines(data):
    """The nearest length to 4 bytes; and the mean cost of letters under counts of the context plus one, by hand."""
    scored = score_choices(Repeater(), QUESTIONS[1:2], data)
    assert scored.metrics["length/accuracy"] == 0.0  # "mnop" is as long
    assert score_choices(Repeater(), [replace(QUESTIONS[1], answer=3)], data).metrics["length/accuracy"] == 1.0
    total = 4 + 261
    costs = {"ab": math.log(total / 2), "mnop": math.log(total)}
    assert costs["ab"] < costs["mnop"]
    assert score_choices(Repeater(), [replace(QUESTIONS[1], answer=0)], data).metrics["unigram/accuracy"] == 1.0


def test_long_contexts_keep_their_end_and_long_choices_their_beginning(data):
    """Truth: the rows that the model is given."""
    seen = []

    class Recorder(Repeater):
        text = TextConfig(vocab_size=261, max_length=16)

        def token_nats(self, texts):
            seen.extend(ids[valid].tolist() for ids, valid in zip(texts.ids_BL, texts.valid_BL, strict=True))
            return super().token_nats(texts)

    context = "abcdefghijklmnopqrstuvwxyz"
    score_choices(
        Recorder(),
        [Question(key="", group="", context=(context,), choices=("0123456789", "ABC", "A", "B"), answer=0)],
        data,
    )
    letters = lambda text: [5 + ord(letter) for letter in text]  # noqa: E731
    assert [*letters("tuvwxyz"), 2, *letters("01234567")] in seen
    assert [*letters("pqrstuvwxyz"), 2, *letters("ABC"), 2] in seen
    assert [0, *letters("01234567")] in seen and [0, *letters("A"), 2] in seen


def test_next_paragraphs_follow_and_others_are_of_other_documents(documents):
    questions = next_paragraph_questions(documents, 800)
    assert questions == next_paragraph_questions(documents, 800)
    by_text = {t: d for d in documents for t in d.paragraphs}
    assert Counter(q.group for q in questions) == {"de-DE": 16, "en-US": 16, "fr-FR": 16}
    for question in questions:
        document = by_text[question.choices[question.answer]]
        before = len(question.context)
        assert question.context == document.paragraphs[:before]
        assert question.choices[question.answer] == document.paragraphs[before]
        others = [c for n, c in enumerate(question.choices) if n != question.answer]
        assert len(set(others)) == 3 and all(
            by_text[c].language == question.group and by_text[c] is not document and "title" not in c for c in others
        )
    assert all(count >= 4 for count in Counter(q.answer for q in questions).values())
    assert len(next_paragraph_questions(documents, 6)) == 6


def test_translations_have_the_same_place(documents):
    questions = translation_questions(documents, 800, "en-US")
    by_text = {t: (d.language, d.facts[n]["paragraph"]) for d in documents for n, t in enumerate(d.paragraphs)}
    assert Counter(q.group for q in questions) == {
        f"{a}>{b}": 16 for a, b in (("en-US", "de-DE"), ("de-DE", "en-US"), ("en-US", "fr-FR"), ("fr-FR", "en-US"))
    }
    for question in questions:
        source, target = question.group.split(">")
        (context,) = question.context
        assert by_text[context][0] == source
        assert {by_text[choice][0] for choice in question.choices} == {target}
        same = [by_text[choice][1] == by_text[context][1] for choice in question.choices]
        assert same.count(True) == 1 and same[question.answer]
    with pytest.raises(ValueError, match="no text of the language en-US"):
        translation_questions([d for d in documents if d.language != "en-US"], 800, "en-US")


@pytest.mark.parametrize("kind", ["next_paragraph", "translation"])
def test_kinds_read_shards(data, kind):
    scored = KINDS[kind].score(Repeater(), replace(data, limit=8, options=KINDS[kind].options))
    assert len(scored.samples) in (8, 9) and 0 <= scored.metrics["accuracy"] <= 1
    with pytest.raises(ValueError, match="needs a language model"):
        KINDS[kind].score(object(), data)
    with pytest.raises(ValueError, match="are not in these shards"):
        KINDS[kind].score(Repeater(), replace(data, options={**KINDS[kind].options, "languages": "en-US, it-IT"}))
