"""Questions about pictures, answered by a model that never learnt to: with the candidate that it finds likeliest as the
continuation of the question. Legend: B rows, A candidates.

A row is the picture with one text, the question and then a candidate. Its score is the log-likelihood of the
candidate's tokens; so long candidates start with a handicap, as everywhere. Calibrated, what the question alone gives
is subtracted (pointwise mutual information, arXiv 2104.08315): common words lose their head start, long ones their
handicap.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, get_args

import torch
from mm_mhmoe_data.collate import collate_texts
from mm_mhmoe_data.ordered import iterate_vqa
from mm_mhmoe_data.pipeline import ShardDataset
from mm_mhmoe_data.recipes.answers import read_answers_file
from mm_mhmoe_data.vqa_data import answer_vocabulary, read_vqa
from torch import Tensor

from mm_mhmoe.batch import Images, ImageTextBatch, Texts
from mm_mhmoe.config import TextConfig
from mm_mhmoe.models.likelihood import Reading
from mm_mhmoe_eval.kinds.answered import read_asked, scored_answers
from mm_mhmoe_eval.kinds.scored import Scored, ScoredData
from mm_mhmoe_eval.protocol import ContinuesTexts

OPTIONS = {"reading": "masked", "calibrated": False, "min_answer_count": 9}


def score(model: Any, data: ScoredData) -> Scored:
    reading = data.options["reading"]
    if reading not in get_args(Reading):
        raise ValueError(f"options.reading={reading!r} is not one of {', '.join(get_args(Reading))}")
    if not isinstance(model, ContinuesTexts):
        raise ValueError(
            f"{type(model).__name__} does not say how likely a text is; an open_vqa task needs a pretrained model"
        )
    examples = read_asked(data)
    dataset = ShardDataset(str(data.paths["test"]), "images")
    answers = candidates(data)
    likeliest: dict[int, list[str]] = {}
    blind: dict[str, Tensor] = {}
    asked = iterate_vqa(dataset, examples, (), **data.inputs(model))
    by_id = {example.question_id: example for example in examples}
    for batch in asked:
        assert batch.pairs.images is not None
        for pixels_CHW, number in zip(batch.pairs.images.pixels_BCHW, batch.question_ids, strict=True):
            question = by_id[number].question
            score_A = _likelihoods(model, data, question, answers, pixels_CHW)
            if data.options["calibrated"]:
                if question not in blind:
                    blind[question] = _likelihoods(model, data, question, answers, None)
                score_A = score_A - blind[question]
            likeliest[number] = [answers[i] for i in score_A.topk(min(3, len(answers))).indices.tolist()]
    return scored_answers(data, examples, likeliest, answers)


def _likelihoods(
    model: ContinuesTexts, data: ScoredData, question: str, answers: Sequence[str], pixels_CHW: Tensor | None
) -> Tensor:
    """(A,) of the candidates behind the question, about the picture or without one."""
    parts = []
    for texts, start_B in continuations(question, answers, data.tokenizer, model.text, data.batch_size):
        images = None if pixels_CHW is None else Images(pixels_BCHW=pixels_CHW.expand(len(texts), -1, -1, -1))
        pairs = ImageTextBatch(images=images, texts=texts).to(data.device)
        start_B = start_B.to(data.device)
        parts.append(model.continuation_log_likelihood(pairs, start_B, data.options["reading"]).cpu())
    return torch.cat(parts)


def candidates(data: ScoredData) -> list[str]:
    """Those of the file `answers`, or the common answers of the training questions. Raises ValueError without both."""
    if "answers" in data.paths:
        return read_answers_file(Path(data.paths["answers"]))
    if not {"train_questions", "train_annotations"} <= set(data.paths):
        raise ValueError("open_vqa needs candidates: data.answers, or train_questions and train_annotations")
    train = read_vqa(data.paths["train_questions"], data.paths["train_annotations"])
    return answer_vocabulary(train, min_count=data.options["min_answer_count"])


def continuations(
    question: str, answers: Sequence[str], tokenizer: Any, text: TextConfig, batch_size: int
) -> Iterator[tuple[Texts, Tensor]]:
    """Texts of the question and each answer, and where the answers begin. A long question loses its last tokens, so
    that the answer is whole; an answer as long as a text loses its own."""
    begin, *asked, end = tokenizer.encode(question, text.max_length)
    for start in range(0, len(answers), batch_size):
        said = [tokenizer.encode(answer, text.max_length)[1:-1] for answer in answers[start : start + batch_size]]
        befores = [[begin, *asked[: text.max_length - 2 - len(ids)]] for ids in said]
        rows = [[*before, *ids, end] for before, ids in zip(befores, said, strict=True)]
        yield collate_texts(rows, text.pad_id, text.max_length), torch.tensor([len(before) for before in befores])
