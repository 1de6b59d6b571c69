"""Golden scores of NLVR2's official script: tests/golden/nlvr2_scores.json.

The script is nlvr2/eval/metrics.py of github.com/lil-lab/nlvr, which has no package; commit
18924841aa96d519cfb8584f0945350f07a6d860 was used. With a checkout at hand:

    python tests/golden/make_nlvr2_scores.py nlvr

It runs as it is, on real identifiers and labels of the development set and on made-up predictions, of which different
shares are right. Kept are identifiers, labels, predictions and what the script printed; no sentence.
"""

import json
import random
import subprocess
import sys
import tempfile
from pathlib import Path

SHARES = (0.0, 0.5, 0.76, 0.95, 1.0)
LINES = 400


def official(root: Path, predictions: dict[str, str], rows: list[dict[str, str]]) -> dict[str, float]:
    with tempfile.TemporaryDirectory() as folder:
        said, labels = Path(folder) / "said.csv", Path(folder) / "labels.json"
        said.write_text("".join(f"{name},{label}\n" for name, label in predictions.items()))
        labels.write_text("".join(json.dumps(row) + "\n" for row in rows))
        words = [sys.executable, str(root / "nlvr2" / "eval" / "metrics.py"), str(said), str(labels)]
        printed = subprocess.run(words, check=True, capture_output=True, text=True).stdout
    return {name: float(value) for name, value in (line.split("=") for line in printed.split())}


def main(root: Path) -> None:
    lines = (root / "nlvr2" / "data" / "dev.json").read_text().splitlines()[:LINES]
    rows = [{name: json.loads(line)[name] for name in ("identifier", "label")} for line in lines]
    rng = random.Random(0)
    cases = []
    for share in SHARES:
        predictions = {row["identifier"]: str((row["label"] == "True") == (rng.random() < share)) for row in rows}
        cases.append({"predictions": list(predictions.values()), **official(root, predictions, rows)})
    golden = {
        "identifiers": [row["identifier"] for row in rows],
        "labels": [row["label"] for row in rows],
        "cases": cases,
    }
    Path(__file__).with_name("nlvr2_scores.json").write_text(json.dumps(golden, separators=(",", ":")) + "\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
