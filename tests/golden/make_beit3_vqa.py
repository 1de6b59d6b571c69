"""Golden values of BEiT-3's VQAv2 index: tests/golden/beit3_vqa.json.

The code is beit3/datasets.py of github.com/microsoft/unilm, which has no package and no releases; commit
51cc8f9da282b73c399e5c63aef4d87fe0099cdc was used. With its folder beit3 at hand, and its imports installed:

    PYTHONPATH=unilm/beit3 python tests/golden/make_beit3_vqa.py

`VQAv2Dataset.make_dataset_index` runs as it is, on made-up questions and answers that differ in case, articles, number
words, contractions and punctuation. Pictures are empty files, as only their names are looked at, and texts are not
tokenized. Kept are the questions with their answers, and what the code wrote about them.
"""

import json
import random
import tempfile
from pathlib import Path

from datasets import VQAv2Dataset

POOL = """yes|Yes|no|No!|two|2|the cat|cat|T-shirt|t shirt|don't know|dont know|1,000|1000|3.5|N.Y.|blue/green|none|0
It's red|its red|(left)|left|tv |tv|5'|"quoted"|a||café|half-eaten|_|rare|rarer""".replace("\n", "|").split("|")


class NoTokenizer:
    def tokenize(self, text: str) -> list[str]:
        return [text]

    def convert_tokens_to_ids(self, tokens: list[str]) -> list[int]:
        return [0]


def people(rng: random.Random, image: int, number: int) -> dict:
    top, *others = rng.choices(POOL, [1 / (1 + place) for place in range(len(POOL))], k=10)
    agree = rng.randint(1, 10)
    return {
        "image_id": image,
        "question_id": 1000 * image + number,
        "multiple_choice_answer": top,
        "answers": ([top] * agree + others)[:10],
    }


def main(out: Path) -> None:
    rng = random.Random(0)
    rows = {
        split: [people(rng, first + image, number) for image in range(60) for number in range(rng.randint(1, 4))]
        for split, first in (("train", 0), ("val", 100))
    }
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        for split, part in rows.items():
            (root / f"{split}2014").mkdir()
            for row in part:
                (root / f"{split}2014" / f"COCO_{split}2014_{row['image_id']:012d}.jpg").touch()
            asked = [{"image_id": r["image_id"], "question_id": r["question_id"], "question": "?"} for r in part]
            notes = [row | {"answers": [{"answer": answer} for answer in row["answers"]]} for row in part]
            (root / f"v2_OpenEnded_mscoco_{split}2014_questions.json").write_text(json.dumps({"questions": asked}))
            (root / f"v2_mscoco_{split}2014_annotations.json").write_text(json.dumps({"annotations": notes}))
        for split in ("test2015", "test-dev2015"):
            (root / f"v2_OpenEnded_mscoco_{split}_questions.json").write_text('{"questions": []}')
        VQAv2Dataset.make_dataset_index(name, NoTokenizer(), name)
        index = {}
        for split in rows:
            lines = map(json.loads, (root / f"vqa.{split}.jsonl").read_text().splitlines())
            index[split] = {str(row["qid"]): [row["labels"], row["scores"]] for row in lines}
        golden = {"rows": rows, "answer2label": (root / "answer2label.txt").read_text(), "index": index}
    out.write_text(json.dumps(golden, ensure_ascii=False, separators=(",", ":"), sort_keys=True) + "\n")


if __name__ == "__main__":
    main(Path(__file__).with_name("beit3_vqa.json"))
