"""Truth: sums written out over the bytes of the documents, and a real model on one document at a time."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from mm_mhmoe_eval.kinds import KINDS
from mm_mhmoe_eval.kinds.language.sequences import sequence_nats, windows

from mm_mhmoe.config import TextConfig, VisionConfig, language_preset
from mm_mhmoe.models.tasks import LanguageModel


class Fixed:
    """Gives every token nats that only depend on which token it is."""

    vision = VisionConfig()
    text = TextConfig(vocab_size=261, max_length=16)

    def token_nats(self, texts):
        return torch.where(texts.valid_BL, 0.01 * texts.ids_BL, 0.0)[:, 1:]


def test_sums_over_tokens_and_bytes_by_language(data, documents):
    scored = KINDS["perplexity"].score(Fixed(), data)
    for language in (None, "de-DE", "en-US", "fr-FR"):
        own = [d for d in documents if language in (None, d.language)]
        texts = [text for document in own for text in document.paragraphs]
        size = sum(len(text.encode()) + 1 for text in texts)
        nats = sum(0.01 * (5 + byte) for text in texts for byte in text.encode()) + len(texts) * 0.02
        behind = f"/{language}" if language else ""
        found = {name: scored.metrics[name + behind] for name in ("nats_per_token", "perplexity", "bits_per_byte")}
        assert scored.metrics[f"tokens{behind}"] == scored.metrics[f"bytes{behind}"] == size
        wanted = {"nats_per_token": nats / size, "perplexity": math.exp(nats / size)}
        assert found == pytest.approx({**wanted, "bits_per_byte": nats / size / math.log(2)}, rel=1e-5)
    each = [scored.metrics[f"bits_per_byte/{language}"] for language in ("de-DE", "en-US", "fr-FR")]
    assert scored.metrics["mean_of_languages/bits_per_byte"] == pytest.approx(sum(each) / 3)
    low, high = scored.intervals["perplexity"]
    assert low <= scored.metrics["perplexity"] <= high
    assert len(scored.samples) == len(documents)


def test_only_the_first_documents(data):
    scored = KINDS["perplexity"].score(Fixed(), replace(data, limit=5))
    assert len(scored.samples) == 5 and "bits_per_byte/fr-FR" not in scored.metrics


@pytest.mark.parametrize("count", [1, 2, 4, 5, 8, 9, 30])
def test_windows_predict_every_token_but_the_first_once(count):
    parts = windows(list(range(count)), 5)
    assert [token for part in parts for token in part[1:]] == list(range(1, count))
    assert all(len(part) == 5 for part in parts[:-1]) and 1 <= len(parts[-1]) <= 5
    assert all(len(part) > 1 for part in parts) or count == 1


def test_batches_of_padded_rows_give_what_each_row_gives_alone(data):
    torch.manual_seed(0)
    config = language_preset("tiny", dim=32, depth=2, num_heads=4, ffn_dim=64)
    model = LanguageModel(replace(config, text=TextConfig(vocab_size=261, max_length=16))).eval()
    rows = [[0, *range(5, 5 + n)] for n in (3, 9, 1, 15, 7, 2, 11, 4, 6)]
    together = sequence_nats(model, rows, data)
    for row, found in zip(rows, together, strict=True):
        (alone,) = sequence_nats(model, [row], data)
        assert len(found) == len(row) - 1
        torch.testing.assert_close(found, alone, rtol=1e-5, atol=1e-5)


def test_a_model_that_predicts_no_tokens_is_refused(data):
    with pytest.raises(ValueError, match="needs a language model"):
        KINDS["perplexity"].score(object(), data)
