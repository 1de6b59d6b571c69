"""img2dataset itself downloads pictures from a server on this machine; its output is read as it is.

It cannot be installed beside this package (it needs an older webdataset). Install it into an environment of its own and
put its command on the PATH to run this; a committed output of it is tested in tests/data/test_img2dataset_output.py.
"""

from __future__ import annotations

import csv
import json
import os
import shutil
import subprocess
import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from mm_mhmoe_data.pipeline import ShardDataset
from mm_mhmoe_data.stats import shard_stats

from mm_mhmoe.commands.sources import data_path

PICTURES, EMPTY = 24, (3, 11)  # samples without caption


@pytest.fixture
def served(tmp_path: Path) -> tuple[Path, list[str]]:
    """A folder of the demo's pictures, and their captions."""
    demo, folder = ShardDataset(data_path("demo:val")), tmp_path / "served"
    folder.mkdir()
    for i in range(PICTURES):
        (folder / f"{i}.webp").write_bytes(demo.image_bytes(i))
    (folder / "text.webp").write_text("no picture")
    return folder, ["" if i in EMPTY else demo.caption(i) for i in range(PICTURES)]


@pytest.mark.skipif(shutil.which("img2dataset") is None, reason="the command img2dataset is not on the PATH")
def test_its_output_is_read_unchanged(served: tuple[Path, list[str]], tmp_path: Path) -> None:
    folder, captions = served
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(SimpleHTTPRequestHandler, directory=folder)) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        address = f"http://127.0.0.1:{server.server_port}"
        rows = [(f"{address}/{i}.webp", caption) for i, caption in enumerate(captions)]
        rows[5:5] = [(f"{address}/missing.webp", "not there"), (f"{address}/text.webp", "no picture")]
        with (tmp_path / "list.csv").open("w", newline="") as file:
            csv.writer(file).writerows([("url", "caption"), *rows])
        options = {
            "url_list": tmp_path / "list.csv",
            "input_format": "csv",
            "url_col": "url",
            "caption_col": "caption",
            "output_format": "webdataset",
            "output_folder": tmp_path / "out",
            "image_size": 64,
            "number_sample_per_shard": 20,
            "processes_count": 1,
            "thread_count": 4,
            "enable_wandb": False,
        }
        command = ["img2dataset", *(word for name, value in options.items() for word in (f"--{name}", str(value)))]
        # Its workers are spawned and would import this package's newer webdataset.
        environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"} | {"NO_ALBUMENTATIONS_UPDATE": "1"}
        subprocess.run(command, check=True, timeout=300, capture_output=True, env=environment)
        server.shutdown()

    out = tmp_path / "out"
    stats = [json.loads((out / f"0000{i}_stats.json").read_text()) for i in range(2)]
    assert sum(s["successes"] for s in stats) == PICTURES and sum(s["count"] for s in stats) == len(rows)
    assert list(out.glob("*.parquet"))
    pairs, pictures = ShardDataset(out), ShardDataset(out, "images")
    assert (len(pairs), pairs.left_out, len(pictures)) == (PICTURES - len(EMPTY), len(EMPTY), PICTURES)
    assert sorted(pairs.caption(i) for i in range(len(pairs))) == sorted(filter(None, captions))
    for i in range(len(pictures)):
        metadata = pictures.metadata(i)
        assert metadata["key"] == pictures.keys[i] and metadata["status"] == "success"
        assert pictures.picture(i).shape == (3, metadata["height"], metadata["width"])
    assert shard_stats([out / "00000.tar", out / "00001.tar"]).problems == []
