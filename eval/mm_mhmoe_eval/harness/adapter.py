"""A language model as lm-eval wants it. This file needs lm_eval: it is imported when lm-eval's tasks are asked for."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import Any

import torch
from lm_eval.api.model import LM
from mm_mhmoe_data.tokenizer import Tokenizer

from mm_mhmoe.models.tasks import LanguageModel
from mm_mhmoe_eval.harness.answers import Wanted, log_likelihoods, wanted, write
from mm_mhmoe_eval.harness.rows import pair_ids, pair_rows, rolling_rows, text_ids


class HarnessModel(LM):
    """Answers lm-eval's three kinds of requests.

    Args:
        model: in eval mode, on the device.
        tokenizer: of the model.
        batch_size: rows at a time.
        device: where batches go.
    """

    def __init__(
        self, model: LanguageModel, tokenizer: Tokenizer, *, batch_size: int, device: torch.device | str = "cpu"
    ) -> None:
        super().__init__()
        self.model, self.words = model, tokenizer
        self.longest = model.text.max_length
        self.batches: dict[str, Any] = {"batch_size": batch_size, "device": device}

    def loglikelihood(self, requests: Sequence[Any]) -> list[tuple[float, bool]]:
        """Of continuations behind their contexts: log-likelihoods, and whether each token is the likeliest."""
        pairs = [pair_ids(self.words, *request.args) for request in requests]
        return log_likelihoods(self.model, [pair_rows(*pair, self.longest) for pair in pairs], **self.batches)

    def loglikelihood_rolling(self, requests: Sequence[Any]) -> list[float]:
        """Log-likelihoods of whole texts."""
        texts = [text_ids(self.words, *request.args) for request in requests]
        found = log_likelihoods(self.model, [rolling_rows(ids, self.longest) for ids in texts], **self.batches)
        return [likelihood for likelihood, _ in found]

    def generate_until(self, requests: Sequence[Any]) -> list[str]:
        """What is written behind contexts, as the tasks' generation_kwargs say."""
        alike: defaultdict[Wanted, list[int]] = defaultdict(list)
        for place, request in enumerate(requests):
            alike[wanted(**request.args[1])].append(place)
        found = [""] * len(requests)
        for asked, places in alike.items():
            contexts = [requests[place].args[0] for place in places]
            for number, text in write(self.model, self.words, contexts, asked, **self.batches):
                found[places[number]] = text
        return found
