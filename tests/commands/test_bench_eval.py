from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch

from mm_mhmoe.batch import Images
from mm_mhmoe.commands.bench_eval import Recorded


def test_calls_are_made_again() -> None:
    class Model:
        classes = ("a", "b")

        def __init__(self) -> None:
            self.seen: list[int] = []

        def class_logits(self, images: Images) -> torch.Tensor:
            self.seen.append(len(images))
            return torch.zeros(len(images), 2)

    model = Model()
    recorded: Any = Recorded(model)
    assert recorded.classes == ("a", "b") and not hasattr(recorded, "embed_texts")
    for count in (3, 2):
        assert recorded.class_logits(Images(pixels_BCHW=torch.zeros(count, 3, 4, 4))).shape == (count, 2)
    recorded.again()
    assert model.seen == [3, 2, 3, 2]


def test_the_command(call: Any, saved: Any, shards: Path, tmp_path: Path) -> None:
    task = tmp_path / "t.yaml"
    task.write_text(
        "name: t\nversion: 1\nkind: retrieval\ndescription: d\ndata: {test: .}\nmetrics: [image_retrieval_recall@10]\n"
    )
    words = [
        "--task",
        task,
        "--data_dir",
        shards,
        "--workers",
        "[0]",
        "--samples",
        1,
        "--busy_cores",
        99,
        "--cpu_time",
        "true",
    ]
    code, out, err = call("bench", "eval", "--model", saved("m", "retrieval"), *words, "--out", tmp_path / "b.json")
    assert code == 0, err
    assert "24 samples" in out
    rows = json.loads((tmp_path / "b.json").read_text())["rows"]
    assert set(rows) == {"the model's calls alone", "scoring, 0 workers"}
    assert rows["the model's calls alone"]["of_limit"] == 1.0 and 0 < rows["scoring, 0 workers"]["of_limit"] < 1.5
