"""The tables that `mm-mhmoe analyze` prints: means over sparse layers. Layer by layer they are in analysis.json."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.table import Table

from mm_mhmoe.analysis.routing_stats import mean_statistics
from mm_mhmoe.analysis.token_groups import MODALITIES


def load_table(models: Mapping[str, Any], *, title: str) -> Table:
    """Two lines a model, one a modality; a dense model has one."""
    caption = (
        "Below a model's name: experts x heads. In use: above 0.1 or 0.5 of the even load. In brackets: uniform "
        "routing. Means over sparse layers."
    )
    table = _table(title, caption, ("model", "tokens"))
    for column in ("load\nentropy", "busiest\nexpert", "in use\n>0.1", "in use\n>0.5", "dropped", "experts\na token"):
        table.add_column(column, justify="right", no_wrap=True)
    for name, model in models.items():
        if "mean" not in model:
            table.add_row(f"{name}\n[dim]dense[/]", "all", *["-"] * 6)
        present = [modality for modality in MODALITIES if modality in model.get("mean", {})]
        for modality in present:
            values = model["mean"][modality]
            table.add_row(
                f"{name}\n[dim]{_kind(model)}[/]" if modality == present[0] else "",
                modality,
                f"{values['load_entropy']:.3f}",
                f"{values['max_over_mean']:.2f} x",
                *(f"{100 * values[f'active_{threshold}']:.0f} %" for threshold in ("0.1", "0.5")),
                f"{100 * values['dropped']:.1f} %" if "dropped" in values else "-",
                f"{values['diversity']:.2f} ({model['uniform_diversity']:.2f})" if model["heads"] > 1 else "-",
            )
    return table


def agreement_table(agreements: Sequence[Mapping[str, Any]]) -> Table:
    """One line a pair of models and modality."""
    caption = (
        "Same expert: for the first choice of a sub-token. Information: normalised mutual information of first "
        "choices, which no renaming of experts changes. Best head: the same of each head with the head that tells "
        "most about it. In brackets: by chance. Means over the sparse layers of both."
    )
    table = _table("Do they route alike?", caption, ("models", "tokens"))
    for column in ("same expert", "information", "best head"):
        table.add_column(column, justify="right", no_wrap=True)
    for pair in agreements:
        for modality in MODALITIES:
            layers = [parts[modality] for parts in pair["layers"].values() if modality in parts]
            values = mean_statistics(layers)
            cells = [
                f"{scale * values[name]:.{digits}f}{unit} ({scale * values[f'{name}_by_chance']:.{digits}f}{unit})"
                if name in values
                else "-"
                for name, scale, digits, unit in (
                    ("equal", 100, 0, " %"),
                    ("information", 1, 3, ""),
                    ("best_head", 1, 3, ""),
                )
            ]
            label = f"{pair['first']}\n{pair['second']}" if modality == MODALITIES[0] else ""
            table.add_row(label, modality, *cells)
    return table


def _table(title: str, caption: str, columns: Sequence[str]) -> Table:
    table = Table(title=title, caption=caption, box=SIMPLE_HEAD, padding=(0, 1, 0, 0), title_justify="left",
                  caption_justify="left")  # fmt: skip
    for column in columns:
        table.add_column(column, overflow="fold", no_wrap=column == "tokens")
    return table


def _kind(model: Mapping[str, Any]) -> str:
    return f"MH-MoE {model['experts']} x {model['heads']}" if model["ffn"] == "mh_moe" else f"MoE {model['experts']}"
