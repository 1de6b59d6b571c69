"""A plan and a solution in a terminal."""

from __future__ import annotations

from dataclasses import asdict

from rich.console import Console
from rich.table import Table

from mm_mhmoe.analysis.plan import Plan
from mm_mhmoe.sizing import FFNSize, Solution

# Rows of the table: name, and what it is called among parameters, FLOPs and kept bytes.
PARTS = (
    ("embeddings", "embeddings", "patch_embedding", "embeddings"),
    ("attention", "attention", "attention", "attention"),
    ("dense FFNs", "dense_ffn", "dense_ffn", "dense_ffn"),
    ("routers", "router", "router", "router"),
    ("multi-head, merge", "head_and_merge", "head_and_merge", "head_and_merge"),
    ("experts", "experts", "experts", "experts"),
    ("shared experts", "shared_experts", "", ""),  # FLOPs and bytes: among the experts'
    ("LayerNorms", "norms", "", "norms"),
    ("heads", "task_heads", "task_heads", "task_heads"),
    ("weights in 16 bit", "", "", "weight_copies"),
    ("one block, computed again", "", "", "one_block"),
)


def amount(value: float, unit: str = "") -> str:
    """Three or four digits and a decimal prefix: 1234567 is 1.23 M."""
    for prefix in ("", "k", "M", "G", "T", "P"):
        if abs(value) < 1000 or prefix == "P":
            break
        value /= 1000
    number = f"{value:,.0f}" if prefix == "" or abs(value) >= 100 else f"{value:.3g}"
    return f"{number} {prefix}{unit}".strip()


def print_plan(plan: Plan, console: Console) -> None:
    """Four tables: the cost by part, totals, memory on a device, the sparse layer beside its references."""
    console.print(_title(plan), highlight=False)
    console.print(_cost(plan))
    console.print(_memory(plan))
    if plan.against_dense is not None and plan.against_moe is not None:
        moe = plan.config.moe
        console.print(_beside([plan.against_dense, plan.against_moe], f"The sparse layer under parity {moe.parity}"))
    for warning in plan.warnings:
        console.print(f"[yellow]warning:[/] {warning}", highlight=False)


def print_solution(solution: Solution, console: Console) -> None:
    """The layer that was found, in words, and its mismatch."""
    console.print(f"[bold]{describe(solution.size)}", highlight=False)
    console.print(_beside([solution], f"Solved for parity {solution.parity}"))
    size = solution.size
    if size.router_parameters:
        console.print(
            f"A linear router would add {size.router_parameters / size.parameters:.2%} parameters and "
            f"{size.router_macs / size.macs:.2%} FLOPs.",
            highlight=False,
        )


def describe(size: FFNSize) -> str:
    """A layer in one line."""
    kind = "GELU" if size.matrices == 2 else "SwiGLU"
    if size.experts == 1 and size.heads == 1 and not size.projection_layers:
        return f"dense FFN, {size.dim} -> {size.hidden} ({kind})"
    split = f"{size.heads} heads, " if size.heads > 1 else ""
    shared = f", {size.shared_experts} shared" if size.shared_experts else ""
    name = "MH-MoE" if size.heads > 1 or size.projection_layers else "MoE"
    return f"{name}, {split}{size.experts} experts {size.width} -> {size.hidden} ({kind}), top-{size.top_k}{shared}"


def _title(plan: Plan) -> str:
    config, mesh = plan.config, plan.mesh
    layers = f"{config.depth} layers of {config.dim}"
    size = config.sparse_size if config.num_sparse else config.dense_size
    where = f"in {config.num_sparse} of them" if config.num_sparse else "in all"
    work = plan.workload
    more = {"captions": work.caption_loss, "contrastive": work.contrastive_loss, "matching": work.itm_loss}
    asked = "".join(f" + {name}" for name, is_asked in more.items() if is_asked)
    rows = f"{work.batch_images} pictures, {work.batch_texts} texts, {work.batch_pairs} pairs{asked}"
    if work.sequences:
        rows = f"{work.sequences} sequences"
    return (
        f"[bold]{layers}[/]; {where}: {describe(size)}\n"
        f"devices: {mesh.devices} x {plan.arithmetic.device} (dp {mesh.dp} x fsdp {mesh.fsdp} x ep {mesh.ep}), "
        f"{plan.arithmetic.precision}\n"
        f"a step of each: {rows}; {work.tokens(config):,} tokens\n"
    )


def _cost(plan: Plan) -> Table:
    parameters, token, step, kept = (
        plan.parameters.by_part(),
        asdict(plan.token),
        asdict(plan.step),
        asdict(plan.kept),
    )
    table = Table(
        title="Cost on one device by part (FLOPs: forward pass)", title_justify="left", box=None, pad_edge=False
    )
    table.add_column("part")
    for name in ("parameters", "FLOPs/token", "FLOPs/step", "kept bytes"):
        table.add_column(name, justify="right")
    for name, of_parameters, of_flops, of_bytes in PARTS:
        cells = (
            (parameters.get(of_parameters, 0), ""),
            (token.get(of_flops, 0), ""),
            (step.get(of_flops, 0), ""),
            (kept.get(of_bytes, 0), "B"),
        )
        if any(value for value, _ in cells):
            table.add_row(name, *(amount(value, unit) if value else "" for value, unit in cells))
    totals = (plan.parameters.total, plan.token.total, plan.step.total)
    table.add_section()
    table.add_row("[bold]total", *map(amount, totals), amount(plan.kept.total, "B"))
    table.add_row("active for a token", amount(plan.parameters.active), "", "", "")
    table.add_row("forward + backward", "", "", amount(plan.step.training), "")
    if plan.recomputed:
        table.add_row("blocks computed again", "", "", amount(plan.recomputed), "")
    table.add_row("... on all devices", "", "", amount(plan.flops), "")
    return table


def _memory(plan: Plan) -> Table:
    names = {
        "parameters": "parameters (fp32)",
        "gradients": "gradients (fp32)",
        "optimizer": "AdamW (fp32)",
        "activations": "kept for backward",
    }
    table = Table(title="\nMemory of a device", title_justify="left", box=None, show_header=False, pad_edge=False)
    table.add_column()
    table.add_column(justify="right")
    for name, value in asdict(plan.memory).items():
        table.add_row(names[name], amount(value, "B"))
    table.add_row("[bold]total", amount(plan.memory.total, "B"))
    return table


def _beside(solutions: list[Solution], title: str) -> Table:
    table = Table(title=f"\n{title}", title_justify="left", box=None, pad_edge=False)
    table.add_column("beside")
    table.add_column("parameters", justify="right")
    table.add_column("FLOPs/token", justify="right")
    for found in solutions:
        table.add_row(describe(found.reference), _mismatch(found.parameter_mismatch), _mismatch(found.flop_mismatch))
    size = solutions[0].size
    table.add_row("this layer has", amount(size.parameters), amount(2 * size.macs))
    return table


def _mismatch(relative: float) -> str:
    """A small one in percent, a large one as a factor."""
    return f"{relative:+.2%}" if abs(relative) < 0.5 else f"x {relative + 1:.3g}"
