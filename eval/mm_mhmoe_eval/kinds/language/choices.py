"""Which of four continuations a language model finds likeliest. Legend: N questions, K choices of each.

Three rules choose: the whole continuation's probability; that by its bytes, as HellaSwag's acc_norm; and how much
likelier the context makes it than it is alone (pointwise mutual information). Beside them stand two baselines without a
model: the length nearest to that of the context's last paragraph, and the likeliest tokens by their counts in the
context.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from mm_mhmoe_data.language.tokens import document_ids
from mm_mhmoe_data.tokenizer import BOS, EOS, Tokenizer
from torch import Tensor

from mm_mhmoe_eval.kinds.language.sequences import sequence_nats
from mm_mhmoe_eval.kinds.scored import Scored, ScoredData
from mm_mhmoe_eval.protocol import PredictsTokens
from mm_mhmoe_eval.results import bootstrap_interval

CHOICES = 4


@dataclass(frozen=True, kw_only=True)
class Question:
    """context: paragraphs. choices: paragraphs, of which number `answer` is right. group: what it is counted with."""

    key: str
    group: str
    context: tuple[str, ...]
    choices: tuple[str, ...]
    answer: int


def score_choices(model: PredictsTokens, questions: Sequence[Question], data: ScoredData) -> Scored:
    """Accuracies over all questions and by group, with an interval each, beside chance and the baselines."""
    nats_NK, alone_NK = _nats(model, questions, data)
    bytes_NK = torch.tensor([[len(choice.encode()) for choice in q.choices] for q in questions], dtype=torch.float64)
    lowest = {
        "accuracy": nats_NK,
        "accuracy_per_byte": nats_NK / bytes_NK,
        "accuracy_pmi": nats_NK - alone_NK,
        "length/accuracy": _length_costs(questions),
        "unigram/accuracy": _unigram_costs(questions, data.tokenizer),
    }
    answer_N = torch.tensor([question.answer for question in questions])
    right = {name: (cost_NK.argmin(dim=1) == answer_N).double() for name, cost_NK in lowest.items()}
    metrics = {"chance/accuracy": 1 / CHOICES} | {name: hits_N.mean().item() for name, hits_N in right.items()}
    groups = [question.group for question in questions]
    for group in sorted(set(groups)):
        own_N = torch.tensor([name == group for name in groups])
        metrics |= {f"{name}/{group}": hits_N[own_N].mean().item() for name, hits_N in right.items()}
        metrics[f"count/{group}"] = float(own_N.sum())
    return Scored(
        metrics=metrics,
        intervals={name: list(bootstrap_interval(hits_N.tolist(), seed=0)) for name, hits_N in right.items()},
        samples=[_sample(question, nats_NK[n], alone_NK[n]) for n, question in enumerate(questions)],
        per_sample={name: right[name].tolist() for name in ("accuracy", "accuracy_per_byte", "accuracy_pmi")},
    )


def _sample(question: Question, nats_K: Tensor, alone_K: Tensor) -> dict[str, Any]:
    return {
        "key": question.key,
        "group": question.group,
        "context": list(question.context),
        "choices": list(question.choices),
        "answer": question.answer,
        "nats": nats_K.tolist(),
        "nats_alone": alone_K.tolist(),
    }


def _nats(model: PredictsTokens, questions: Sequence[Question], data: ScoredData) -> tuple[Tensor, Tensor]:
    """Nats of every choice behind its context, and alone: (N, K) both.

    A choice is cut to half of the model's length, and of the context the end is kept that then has room.
    """
    half = model.text.max_length // 2
    behind: list[list[int]] = []
    alone: list[list[int]] = []
    sizes: list[int] = []
    for question in questions:
        context = document_ids(data.tokenizer.encode_all(question.context))
        for pieces in data.tokenizer.encode_all(question.choices):
            choice = [*pieces, EOS][:half]
            behind.append([*context[-(model.text.max_length - len(choice)) :], *choice])
            alone.append([BOS, *choice])
            sizes.append(len(choice))
    sums = [
        torch.tensor([nats[-size:].sum() for nats, size in zip(sequence_nats(model, rows, data), sizes, strict=True)])
        for rows in (behind, alone)
    ]
    shape = (len(questions), CHOICES)
    return sums[0].double().view(shape), sums[1].double().view(shape)


def _length_costs(questions: Sequence[Question]) -> Tensor:
    """How far a choice is from its context's last paragraph in length, as a ratio."""
    return torch.tensor(
        [
            [abs(math.log(len(choice.encode()) / len(question.context[-1].encode()))) for choice in question.choices]
            for question in questions
        ],
        dtype=torch.float64,
    )


def _unigram_costs(questions: Sequence[Question], tokenizer: Tokenizer) -> Tensor:
    """Nats a token under the counts of tokens in the context, one added to each."""
    rows = []
    for question in questions:
        seen = Counter(index for pieces in tokenizer.encode_all(question.context) for index in pieces)
        total = sum(seen.values()) + len(tokenizer)
        rows.append(
            [
                sum(math.log(total / (seen[index] + 1)) for index in pieces) / max(1, len(pieces))
                for pieces in tokenizer.encode_all(question.choices)
            ]
        )
    return torch.tensor(rows, dtype=torch.float64)
