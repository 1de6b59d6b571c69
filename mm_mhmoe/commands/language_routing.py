"""Which experts each language uses, and which words spread over most: parts of `analyze` for language models."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from mm_mhmoe_data.pipeline import ShardDataset
from torch import Tensor

from mm_mhmoe.analysis.group_information import choices_by_group, information
from mm_mhmoe.commands.analyzed_model import AnalyzedModel
from mm_mhmoe.commands.word_spread import word_diversity, words_with_places

WIDEST, FEWEST_TIMES = 20, 5


@dataclass(frozen=True, kw_only=True)
class LanguageRouting:
    """counts: number of a sparse layer, from 1 -> first choices by language and expert (L, E). by_chance: bits that
    would be found if texts had languages at random."""

    languages: Sequence[str]
    counts: dict[int, Tensor]
    bits: dict[int, float]
    by_chance: dict[int, float]

    def to_dict(self) -> dict[str, Any]:
        """JSON values."""
        return {
            "information_bits": {str(layer): round(bits, 4) for layer, bits in self.bits.items()},
            "information_bits_by_chance": {str(layer): round(bits, 4) for layer, bits in self.by_chance.items()},
            "first_choices": {
                str(layer): dict(zip(self.languages, counts_LE.tolist(), strict=True))
                for layer, counts_LE in self.counts.items()
            },
        }


def language_routing(
    one: AnalyzedModel, dataset: ShardDataset, chosen: Sequence[int], *, seed: int
) -> LanguageRouting | None:
    """None where the texts are of one language."""
    named = [str(dataset.metadata(index).get("language", "")) for index in chosen]
    languages = sorted(set(named))
    if len(languages) < 2:
        return None
    of_text = torch.tensor([languages.index(name) for name in named])
    text_T = (one.record.ids_T == one.model.text.bos_id).cumsum(0) - 1
    shuffled = of_text[torch.randperm(len(of_text), generator=torch.Generator().manual_seed(seed))]
    counts, bits, by_chance = {}, {}, {}
    for layer, first_TH in one.record.text_TH.items():
        both = [choices_by_group(own[text_T], first_TH, len(languages), one.num_experts) for own in (of_text, shuffled)]
        counts[layer + 1] = both[0]
        bits[layer + 1], by_chance[layer + 1] = (information(counts_LE) for counts_LE in both)
    return LanguageRouting(languages=languages, counts=counts, bits=bits, by_chance=by_chance)


def widest_words(one: AnalyzedModel, texts: Sequence[str]) -> dict[str, float]:
    """The words whose tokens reach most different experts by their first choices, of those that occur often enough."""
    length = one.model.text.max_length
    times = Counter(word for text in texts for word, _ in words_with_places(one.tokenizer, text, length))
    spread = word_diversity(one.record, texts, one.tokenizer, length, one.num_experts)
    often = {word: value for word, value in spread.items() if times[word] >= FEWEST_TIMES}
    return dict(sorted(often.items(), key=lambda item: (-item[1], item[0]))[:WIDEST])
