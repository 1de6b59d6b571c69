"""One model of `mm-mhmoe analyze`: what it is, and its statistics as JSON values and as figures take them."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mm_mhmoe_data.tokenizer import Tokenizer
from torch import Tensor

from mm_mhmoe.analysis.diversity import independent_diversity, uniform_diversity
from mm_mhmoe.analysis.figures.diversity import Course, KindDiversity
from mm_mhmoe.analysis.figures.load import all_tokens
from mm_mhmoe.analysis.load import active_share
from mm_mhmoe.analysis.routing_stats import group_statistics, mean_statistics
from mm_mhmoe.analysis.routing_sums import RoutingSums, place_name
from mm_mhmoe.analysis.token_groups import KINDS, MODALITIES
from mm_mhmoe.commands.routing_record import GROUPS, RoutingRecord
from mm_mhmoe.commands.run_logs import read_metrics
from mm_mhmoe.models.tasks import TaskModel
from mm_mhmoe.models.upcycling.layers import Place

SWEEP = (0.01, 0.1, 0.25, 0.5, 0.75, 0.9, 1.0, 1.25, 1.5, 2.0)
"""Thresholds of the expert activation ratio, in even loads."""


@dataclass(frozen=True, kw_only=True)
class AnalyzedModel:
    """A model with what its routers did on the samples.

    name: short, for figures; source: as the user gave it.
    """

    name: str
    source: str
    directory: Path
    kind: str
    model: TaskModel
    tokenizer: Tokenizer
    record: RoutingRecord

    @property
    def is_sparse(self) -> bool:
        return self.model.config.ffn != "dense"

    @property
    def num_experts(self) -> int:
        return self.model.config.moe.num_experts

    @property
    def heads(self) -> int:
        return self.model.config.moe.heads if self.model.config.ffn == "mh_moe" else 1

    @property
    def uniform(self) -> float:
        """Different first choices of a token under uniform random routing."""
        return uniform_diversity(self.num_experts, self.heads)

    def loads(self) -> dict[str, dict[Place, Tensor]]:
        """Modality -> sparse layer or pool of experts that sees it -> choices that each expert computed: (E,)."""
        found = {
            modality: {place: sums.computed_GE[g] for place, sums in self.record.sums.items() if sums.tokens_G[g] > 0}
            for g, modality in enumerate(MODALITIES)
        }
        return {modality: own for modality, own in found.items() if own}

    def statistics(self) -> dict[str, Any]:
        """JSON values: what the model is; statistics of each group of tokens, mean over layers and layer by layer.

        Where pictures, texts or pairs have experts of their own, each of these pools counts as a layer.
        """
        config = self.model.config
        found: dict[str, Any] = {"source": self.source, "kind": self.kind, "ffn": config.ffn}
        if not self.is_sparse:
            return found
        layers = {place_name(place): self._layer(sums) for place, sums in self.record.sums.items()}
        every = all_tokens(self.loads()).values()
        return {
            **found,
            "router": config.moe.router,
            "experts": self.num_experts,
            "top_k": config.moe.top_k,
            "heads": self.heads,
            "uniform_diversity": self.uniform,
            "uniform_reached": uniform_diversity(self.num_experts, self.heads, per_pick=config.moe.top_k),
            "activation": {f"{t:g}": sum(active_share(counts_E, t) for counts_E in every) / len(every) for t in SWEEP},
            "mean": {
                group: mean_statistics([layer[group] for layer in layers.values()])
                for group in GROUPS
                if any(layer[group] for layer in layers.values())
            },
            "layers": layers,
            "loads": {
                modality: {place_name(place): counts_E.long().tolist() for place, counts_E in own.items()}
                for modality, own in self.loads().items()
            },
        }

    def _layer(self, sums: RoutingSums) -> dict[str, dict[str, float]]:
        experts_choose = self.model.config.moe.router == "expert_choice"
        found = {}
        for place, group in enumerate(GROUPS):
            values = group_statistics(sums, place, SWEEP, experts_choose=experts_choose)
            if values:
                values["independent_diversity"] = independent_diversity(sums.first_GHE[place])
            found[group] = values
        return found

    def by_kind(self) -> KindDiversity:
        """Diversity of each kind of token, mean over layers."""
        means = self.statistics()["mean"]
        return KindDiversity(
            found={kind: means[kind]["diversity"] for kind in KINDS if kind in means},
            independent={kind: means[kind]["independent_diversity"] for kind in KINDS if kind in means},
            uniform=self.uniform,
        )

    def course(self) -> Course | None:
        """Diversity over training, from the logs beside the model; None where they hold none."""
        metrics = read_metrics(self.directory)
        points = {m: metrics[f"routing/{m}/diversity"] for m in MODALITIES if f"routing/{m}/diversity" in metrics}
        return Course(points=points, uniform=self.uniform) if points else None


def short_names(sources: Sequence[str]) -> list[str]:
    """Names that tell the models apart: the parts of their paths that differ, else the last two parts.

    A model that is given twice gets a number.
    """
    parts = [Path(os.path.normpath(source.split(":", 1)[-1])).parts for source in sources]
    shortest = min(map(len, parts))
    start = next((i for i in range(shortest) if len({p[i] for p in parts}) > 1), shortest)
    end = next((i for i in range(shortest) if len({p[-1 - i] for p in parts}) > 1), shortest)
    names = ["/".join(p[start : len(p) - end] if len(p) - end > start else p[-2:]) for p in parts]
    return [f"{name} ({names[:i].count(name) + 1})" if names.count(name) > 1 else name for i, name in enumerate(names)]
