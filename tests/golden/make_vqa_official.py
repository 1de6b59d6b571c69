"""Golden scores of the official VQAv2 code: tests/golden/vqa_official.json.

    git clone https://github.com/GT-Vision-Lab/VQA
    python tests/golden/make_vqa_official.py VQA

`VQAEval.evaluate` of PythonEvaluationTools/vqaEvaluation/vqaEval.py runs on the 10,000 random answer sets of
vqa_answer_sets.py, in both states of its rules: commit a013f00 (2021) and the one before it. It is Python 2: its prints
get parentheses and its patterns an r before they are compiled; nothing else is changed. Scores are thirtieths, since
each of ten people gives 0, 1/3, 2/3 or 1: kept is one character for each, 0 to u.
"""

from __future__ import annotations

import hashlib
import json
import re
import subprocess
import sys
import types
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))
from vqa_answer_sets import answer_sets

COMMITS = {"2021": "a013f00", "2017": "a013f00~1"}
FILE = "PythonEvaluationTools/vqaEvaluation/vqaEval.py"
DIGITS = "0123456789abcdefghijklmnopqrstu"
TYPES = [(f"question type {n % 7}", ("yes/no", "number", "other")[n % 3]) for n in range(21)]


def official(checkout: str, commit: str) -> Any:
    source = subprocess.run(
        ["git", "-C", checkout, "show", f"{commit}:{FILE}"], capture_output=True, text=True, check=True
    ).stdout
    source = re.sub(r'print ("[^"]*")', r"print(\1)", source)
    source = re.sub(r're\.compile\("', 're.compile(r"', source)
    module = types.ModuleType("vqaEval")
    exec(compile(source, FILE, "exec"), module.__dict__)
    return module.VQAEval


def main(checkout: str, out: Path) -> None:
    sets = answer_sets(10_000)
    golden: dict[str, Any] = {"sets": hashlib.sha256(json.dumps(sets).encode()).hexdigest()}
    for rules, commit in COMMITS.items():
        people = {
            n: {
                "answers": [{"answer": answer, "answer_id": i} for i, answer in enumerate(answers)],
                "question_type": TYPES[n % len(TYPES)][0],
                "answer_type": TYPES[n % len(TYPES)][1],
            }
            for n, (_, answers) in enumerate(sets)
        }
        asked = types.SimpleNamespace(qa=people, getQuesIds=lambda people=people: list(people))
        said = types.SimpleNamespace(qa={n: {"answer": prediction} for n, (prediction, _) in enumerate(sets)})
        scorer = official(checkout, commit)(asked, said, n=8)
        scorer.evaluate()
        golden[rules] = {
            "scores": "".join(DIGITS[round(scorer.evalQA[n] * 0.3)] for n in range(len(sets))),
            "overall": scorer.accuracy["overall"],
            "question_types": scorer.accuracy["perQuestionType"],
            "answer_types": scorer.accuracy["perAnswerType"],
        }
    out.write_text(json.dumps(golden, separators=(",", ":")) + "\n")


if __name__ == "__main__":
    main(sys.argv[1], Path(__file__).with_name("vqa_official.json"))
