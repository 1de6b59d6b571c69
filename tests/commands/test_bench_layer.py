"""Truth: what the table must say is worked out from the JSON file of the same run; the memory of `keep` by hand."""

import json
from functools import partial

import pytest

from mm_mhmoe import cli
from mm_mhmoe.analysis.layer_bench import SIZES, LayerSize
from mm_mhmoe.commands import bench


@pytest.fixture
def tiny(monkeypatch):
    quick = partial(bench.interleave, least_seconds=0, busy_cores=99)
    monkeypatch.setattr(bench, "interleave", quick)
    size = LayerSize(tokens=64, dim=32, heads=4, experts=4, top_k=2, hidden=64)
    monkeypatch.setitem(SIZES, "S", size)
    return size


def test_rows_and_memory(tiny, monkeypatch, tmp_path, capsys):
    monkeypatch.setenv("COLUMNS", "160")
    out = tmp_path / "layer.json"
    cli.run(["bench", "layer", "--sizes", "[S]", "--dtypes", "[fp32]", "--samples", "1", "--out", str(out)])
    (record,) = json.loads(out.read_text())["results"]
    printed = capsys.readouterr().out
    kept = {}
    for name in ("all", "hidden", "tokens"):
        row = record["rows"][f"MH-MoE, keep {name}"]
        kept[name] = 1e6 * row["saved_mb"]
        line = next(line for line in printed.splitlines() if f"keep {name}" in line)
        assert f"{row['saved_mb'] / record['released_mb']:.2f}" in line
    rows = tiny.tokens * tiny.heads * tiny.top_k
    assert kept["hidden"] - kept["tokens"] == pytest.approx(4 * rows * tiny.hidden)
    # all: also the activation; and gathered rows with a column of ones (the router keeps the sub-tokens in any case)
    assert kept["all"] - kept["hidden"] == pytest.approx(4 * rows * (tiny.hidden + tiny.dim // tiny.heads + 1))


def test_no_samples_are_refused():
    with pytest.raises(ValueError, match="samples=0 must be 1 or more"):
        bench.layer(samples=0)
