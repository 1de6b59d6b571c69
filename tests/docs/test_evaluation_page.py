"""What docs/EVALUATION.md shows is run."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Any

import pytest
from mm_mhmoe_eval import kinds
from mm_mhmoe_eval.results import read_record
from mm_mhmoe_eval.tasks import list_tasks, load_task

from mm_mhmoe import cli
from mm_mhmoe.commands.parser import command_parser, spelt_out

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "EVALUATION.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", PAGE, re.DOTALL)


def commands() -> list[list[str]]:
    lines = "\n".join(blocks("bash")).replace("\\\n", " ").splitlines()
    return [shlex.split(line, comments=True)[1:] for line in lines if line.startswith("mm-mhmoe ")]


@pytest.mark.parametrize("words", commands(), ids=" ".join)
def test_commands_parse(words: list[str]) -> None:
    found = cli._find(words)
    assert found is not None
    name, leaf = found
    parser = command_parser(cli.load(leaf), name, "")
    parser.parse_args(spelt_out(words[len(name.split()) :], cli.load(leaf)))


def test_the_comparison_runs(call: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (words,) = [words for words in commands() if words[1] == "compare" and "eval/results" in words[2]]
    for number in (2, 3):
        words[number] = words[number].replace("eval/results", str(ROOT / "eval" / "results"))
    monkeypatch.chdir(tmp_path)
    code, out, err = call(*words)
    assert code == 0, err
    assert "dense" in out and all((tmp_path / f"table.{end}").is_file() for end in ("md", "csv", "tex"))


def test_the_tasks_of_ten_lines(call: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The YAML as it stands, and the kind of task with a YAML of its own, on the shipped pictures."""
    (yaml,) = blocks("yaml")
    assert len(yaml.splitlines()) <= 10
    (tmp_path / "my-task.yaml").write_text(yaml)
    code = next(block for block in blocks("python") if "KINDS[" in block)
    exec(compile(code, "EVALUATION.md", "exec"), {})
    try:
        (tmp_path / "agreement.yaml").write_text(
            yaml.replace("my_retrieval", "agree").replace("kind: retrieval", "kind: agreement").split("metrics")[0]
            + "metrics: [mean_cosine]\n"
        )
        tasks = f"[{tmp_path}/my-task.yaml,{tmp_path}/agreement.yaml]"
        options = ["--output_path", tmp_path, "--workers", 0]
        model = "open_clip:RN50/random"
        monkeypatch.setattr("mm_mhmoe.commands.evaluate.library_model", tiny)
        done, _, err = call("eval", "--model", model, "--tasks", tasks, *options)
    finally:
        del kinds.KINDS["agreement"]
    assert done == 0, err
    agreement = read_record(tmp_path / "agree.json")
    assert -1 <= agreement.metrics["mean_cosine"] <= 1 and len(agreement.per_sample["mean_cosine"]) == 511
    assert read_record(tmp_path / "my_retrieval.json").headline == [
        "image_retrieval_recall@10",
        "text_retrieval_recall@10",
    ]


def tiny(name: str) -> Any:
    """A dual encoder that knows nothing, in a fraction of a second."""
    import torch
    from mm_mhmoe_eval.runner import ModelFacts

    from mm_mhmoe.batch import Images, Texts
    from mm_mhmoe.commands.evaluate import Judged
    from mm_mhmoe.config import TextConfig, VisionConfig

    class Letters:
        def encode(self, text: str, max_length: int) -> list[int]:
            return [ord(letter) % 64 for letter in text[:max_length]]

    class Model(torch.nn.Module):
        vision = VisionConfig(image_size=8, patch_size=8)
        text = TextConfig(vocab_size=64, max_length=16)

        def embed_images(self, images: Images) -> torch.Tensor:
            return torch.nn.functional.normalize(images.pixels_BCHW.float().mean((2, 3)) + 1, dim=1)

        def embed_texts(self, texts: Texts) -> torch.Tensor:
            return torch.nn.functional.normalize(texts.ids_BL[:, :3].float() + 1, dim=1)

    return Judged(Model().eval(), ModelFacts(name="tiny"), Letters(), 0)  # type: ignore[arg-type]


def test_the_table_of_protocols_is_whole() -> None:
    for name, kind in kinds.KINDS.items():
        assert kind.protocol is not None, f"{name} names no protocol"
        row = next(line for line in PAGE.splitlines() if line.startswith(f"| `{kind.protocol.__name__}`"))
        assert name in row


def test_every_shipped_task_is_listed(call: Any) -> None:
    code, out, _ = call("eval", "ls")
    assert code == 0
    for name in list_tasks():
        assert name in out and load_task(name).description.split()[0] in out
    code, out, _ = call("eval", "ls", "--kind", "vqa")
    assert code == 0 and "vqa_openclipart" in out and "retrieval_openclipart" not in out
