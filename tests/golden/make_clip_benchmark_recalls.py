"""Golden values of retrieval recalls: tests/golden/clip_benchmark_recalls.json.

    python -m venv env && env/bin/pip install clip_benchmark==1.6.2
    env/bin/python tests/golden/make_clip_benchmark_recalls.py

`clip_benchmark.metrics.zeroshot_retrieval.evaluate` runs as it is, on a model whose embeddings are random numbers with
a part in common for what belongs together: 60 pictures with one to six captions. Kept are the embeddings and what it
gave.
"""

from __future__ import annotations

import json
from pathlib import Path

import torch
from clip_benchmark.metrics.zeroshot_retrieval import evaluate

PICTURES, WIDTH, KS = 60, 6, [1, 5, 10]


class Lookup:
    """Pictures and texts are numbers; their embeddings are rows of tables."""

    def __init__(self, image_ME: torch.Tensor, text_NE: torch.Tensor) -> None:
        self.image_ME, self.text_NE = image_ME, text_NE

    def encode_image(self, numbers: torch.Tensor) -> torch.Tensor:
        return self.image_ME[numbers]

    def encode_text(self, numbers: torch.Tensor) -> torch.Tensor:
        return self.text_NE[numbers]


def main(out: Path) -> None:
    torch.manual_seed(0)
    owner = [m for m in range(PICTURES) for _ in range(1 + int(torch.randint(6, ())))]
    image_ME = torch.randn(PICTURES, WIDTH)
    text_NE = (image_ME[owner] + 0.9 * torch.randn(len(owner), WIDTH)).mul(1000).round() / 1000
    image_ME = image_ME.mul(1000).round() / 1000
    texts = [[n for n, m in enumerate(owner) if m == picture] for picture in range(PICTURES)]
    batches = [
        (torch.arange(first, first + 16)[: PICTURES - first], texts[first : first + 16])
        for first in range(0, PICTURES, 16)
    ]
    found = evaluate(Lookup(image_ME, text_NE), batches, torch.tensor, "cpu", amp=False, recall_k_list=KS)
    golden = {"image": image_ME.tolist(), "text": text_NE.tolist(), "owner": owner, "recalls": found}
    golden["image"] = [[round(x, 3) for x in row] for row in golden["image"]]
    golden["text"] = [[round(x, 3) for x in row] for row in golden["text"]]
    out.write_text(json.dumps(golden, separators=(",", ":")) + "\n")


if __name__ == "__main__":
    main(Path(__file__).with_name("clip_benchmark_recalls.json"))
