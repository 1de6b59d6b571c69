from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Literal

import torch
from mm_mhmoe_eval.files import write_text_atomic
from rich.console import Console
from rich.table import Table

from mm_mhmoe.analysis.layer_bench import (
    RELEASED_MB,
    SIZES,
    LayerSize,
    build_layers,
    has_transformers,
    layer_inputs,
    products,
    run,
)
from mm_mhmoe.analysis.timing import interleave, saved_bytes
from mm_mhmoe.process import switches

SizeName = Literal["A", "S", "A32", "S32"]
Dtype = Literal["fp32", "bf16"]
_DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}
LIMIT = "LIMIT: the products alone"


def layer(
    sizes: list[SizeName] | None = None,
    dtypes: list[Dtype] | None = None,
    samples: int = 5,
    threads: int = 0,
    einsum: bool = True,
    out: Path | None = None,
) -> None:
    """Times the sparse layer against what else there is, in turns in one process.

    Every number is the time of LIMIT (the layer's matrix products and nothing else) over the time of the layer: 1 is
    as fast as this processor multiplies. Saved: what autograd keeps for the backward pass, parameters not counted;
    beside it as a share of what it keeps of the MH-MoE authors' own layer, which was measured once.

    MH-MoE is timed with each choice of moe.keep.

    Args:
        sizes: A: 4096 tokens of 768, 4 heads, 8 experts of 1536, top-2. S: 8192 tokens of 192, experts of 384. A32,
            S32: with 32 experts. Default: all.
        dtypes: of weights and tokens: fp32, bf16. Default: both.
        samples: of each contestant; those during which other processes were busy do not count.
        threads: of the products; 0: torch's own choice.
        einsum: also times the einsum dispatch of GShard, which takes long and much memory.
        out: a JSON file to write.
    """
    if samples < 1:
        raise ValueError(f"samples={samples} must be 1 or more")
    if threads:
        torch.set_num_threads(threads)
    console = Console()
    console.print(f"torch {torch.__version__}, {torch.get_num_threads()} threads; {switches()}", highlight=False)
    if not has_transformers():
        console.print("Hugging Face's Mixtral block is left out: pip install transformers", highlight=False)
    records = []
    for size in sizes or SIZES:
        for dtype in dtypes or _DTYPES:
            with console.status(f"size {size}, {dtype}"):
                rows = _measure(SIZES[size], _DTYPES[dtype], samples=samples, einsum=einsum)
            records.append({"size": size, "dtype": dtype, "released_mb": RELEASED_MB[size, dtype], "rows": rows})
            console.print(_table(size, dtype, rows))
    if out is not None:
        facts = {"torch": torch.__version__, "threads": torch.get_num_threads(), "switches": switches()}
        write_text_atomic(out, json.dumps({**facts, "results": records}, indent=1) + "\n")


def _measure(size: LayerSize, dtype: torch.dtype, *, samples: int, einsum: bool) -> dict[str, dict[str, Any]]:
    torch.manual_seed(0)
    layers = {name: one.to(dtype) for name, one in build_layers(size, einsum=einsum).items()}
    x_TD, grad_TD, counts = layer_inputs(size, layers["MH-MoE, keep hidden"], dtype)
    limit = products(size, dtype, counts)
    rows: dict[str, dict[str, Any]] = {LIMIT: {}, **{name: {} for name in layers}}
    for mode in ("forward", "training"):
        contestants = {LIMIT: limit[mode]} | {
            name: run(one, x_TD, grad_TD, training=mode == "training") for name, one in layers.items()
        }
        timings = interleave(contestants, samples=samples)
        for name, timing in timings.items():
            rows[name][mode] = timing.against(timings[LIMIT])
    for name, one in layers.items():
        rows[name]["saved_mb"] = saved_bytes(run(one, x_TD, None, training=True), one.parameters()) / 1e6
    return rows


def _table(size: str, dtype: str, rows: dict[str, dict[str, Any]]) -> Table:
    table = Table(title=f"size {size}, {dtype}: share of LIMIT (larger is faster)", title_justify="left")
    table.add_column("")
    released = RELEASED_MB[size, dtype]
    for name in ("forward", "range", "forward + backward", "range", "saved MB", "of released"):
        table.add_column(name, justify="right")
    for name, row in rows.items():
        cells = []
        for mode in ("forward", "training"):
            facts = row[mode]
            cells += [f"{facts['of_limit']:.2f}", f"{facts['range']:.0%}"] if facts["samples"] else ["busy", ""]
        if "saved_mb" in row:
            cells += [f"{row['saved_mb']:.0f}", f"{row['saved_mb'] / released:.2f}"]
        table.add_row(name, *cells)
    return table
