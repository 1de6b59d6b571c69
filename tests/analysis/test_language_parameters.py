"""Truth: the parameters of the real model."""

from __future__ import annotations

from dataclasses import replace

import pytest

from mm_mhmoe.analysis.parameters import count_parameters
from mm_mhmoe.config import language_preset
from mm_mhmoe.models.tasks import LanguageModel


@pytest.mark.parametrize("released", [False, True])
@pytest.mark.parametrize("ffn", ["dense", "moe", "mh_moe"])
def test_a_language_model_has_no_picture_embedding_and_a_head_without_weights(ffn: str, released: bool) -> None:
    config = replace(language_preset("tiny", released=released, dim=32, num_heads=4, ffn_dim=96), ffn=ffn)
    model = LanguageModel(config)
    assert count_parameters(config).total == sum(p.numel() for p in model.parameters())
