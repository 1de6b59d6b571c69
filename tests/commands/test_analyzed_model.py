"""Truth: names by hand."""

import pytest

from mm_mhmoe.commands.analyzed_model import short_names


@pytest.mark.parametrize(
    ("sources", "names"),
    [
        (["runs/a/pretrain"], ["a/pretrain"]),
        (["model"], ["model"]),
        (["runs/seed_0/main/pretrain", "runs/seed_1/main/pretrain"], ["seed_0", "seed_1"]),
        (["local-dir:runs/a", "runs/b/"], ["a", "b"]),
        (["runs/s0/a/pretrain", "runs/s0/a/vqa", "runs/s1/b/vqa"], ["s0/a/pretrain", "s0/a/vqa", "s1/b/vqa"]),
        (["runs/a", "runs/a/b"], ["runs/a", "b"]),
        (["a", "./a"], ["a (1)", "a (2)"]),
        (["hf-hub:me/small", "hf-hub:me/large"], ["small", "large"]),
    ],
)  # fmt: skip
def test_short_names(sources: list[str], names: list[str]) -> None:
    assert short_names(sources) == names
