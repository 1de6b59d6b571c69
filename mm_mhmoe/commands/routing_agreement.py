"""Whether two models route the same samples alike."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from mm_mhmoe.analysis.agreement import (
    best_head_information,
    chance_of_equal,
    equal_share,
    normalised_mutual_information,
    shuffled,
)
from mm_mhmoe.analysis.token_groups import MODALITIES
from mm_mhmoe.commands.analyzed_model import AnalyzedModel


def agreement(first: AnalyzedModel, second: AnalyzedModel, *, seed: int) -> dict[str, Any]:
    """JSON values: for each sparse layer that both have and each modality whose tokens are the same in both.

    equal, equal_by_chance: share of sub-tokens with the same first choice; only for equal heads and experts.
    information, information_by_chance: normalised mutual information of the first choices of all sub-tokens; only
        for equal heads. best_head, best_head_by_chance: of each head with the head that tells most about it.
        By chance: with the tokens of one model in a random order.
    """
    shared = {
        "image": first.model.vision.num_patches == second.model.vision.num_patches,
        "text": torch.equal(first.record.ids_T, second.record.ids_T),
    }
    found: dict[str, Any] = {"first": first.name, "second": second.name, "layers": {}}
    found["not_compared"] = [modality for modality in MODALITIES if not shared[modality]]
    for layer in sorted(first.record.image_TH.keys() & second.record.image_TH.keys()):
        parts = {}
        for modality, ours, theirs in (
            ("image", first.record.image_TH, second.record.image_TH),
            ("text", first.record.text_TH, second.record.text_TH),
        ):
            if shared[modality] and len(ours[layer]):  # language models have no picture tokens
                same_experts = first.num_experts == second.num_experts
                parts[modality] = _measures(ours[layer], theirs[layer], same_experts=same_experts, seed=seed)
        found["layers"][str(layer + 1)] = parts
    return found


def _measures(a_TH: Tensor, b_TH: Tensor, *, same_experts: bool, seed: int) -> dict[str, float]:
    mixed_TH = shuffled(a_TH, seed=seed)
    found: dict[str, float] = {}
    if a_TH.shape == b_TH.shape:
        if same_experts:
            found |= {"equal": equal_share(a_TH, b_TH), "equal_by_chance": chance_of_equal(a_TH, b_TH)}
        found |= {
            "information": normalised_mutual_information(a_TH.flatten(), b_TH.flatten()),
            "information_by_chance": normalised_mutual_information(mixed_TH.flatten(), b_TH.flatten()),
        }
    return {
        **found,
        "best_head": best_head_information(a_TH, b_TH),
        "best_head_by_chance": best_head_information(mixed_TH, b_TH),
    }
