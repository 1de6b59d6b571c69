"""Truth: the shards that were written, and the functions behind the options. Pictures and texts are made up."""

from __future__ import annotations

import inspect
import json
from importlib.resources import files
from pathlib import Path

import pytest
from mm_mhmoe_data.recipes import cards
from mm_mhmoe_data.recipes.debian_handbook import plan_debian_handbook
from mm_mhmoe_data.recipes.folder import plan_folder
from mm_mhmoe_data.recipes.openclipart import build_openclipart
from mm_mhmoe_data.recipes.plan import Plan, shard_jobs
from mm_mhmoe_data.recipes.text import plan_text
from mm_mhmoe_data.recipes.tuxpaint import plan_tuxpaint
from mm_mhmoe_data.shards import Sample, iter_samples
from PIL import Image

from mm_mhmoe import cli
from mm_mhmoe.commands import build

PLANS = {
    build.openclipart: build_openclipart,
    build.tuxpaint: plan_tuxpaint,
    build.debian_handbook: plan_debian_handbook,
    build.text: plan_text,
    build.folder: plan_folder,
}


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    for name in ("cat/0.png", "cat/1.png", "dog/0.png"):
        (tmp_path / "pictures" / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (40, 30), "teal").save(tmp_path / "pictures" / name)
    (tmp_path / "pictures/dog/1.png").write_bytes(b"broken")
    return tmp_path / "pictures"


def test_a_build_says_what_came_of_it_and_going_on_changes_nothing(call, pictures: Path, tmp_path: Path) -> None:
    words = [
        "data",
        "build",
        "folder",
        "--root",
        pictures,
        "--out",
        tmp_path / "out",
        "--image_size",
        16,
        "--workers",
        1,
    ]
    for _ in range(2):
        code, out, _ = call(*words)
        assert code == 0 and f"train 3 samples -> {tmp_path / 'out'}" in out
        assert "left out, see" in out and "unreadable picture (1)" in out
    assert len(list(iter_samples(tmp_path / "out/train/00000.tar"))) == 3


def test_another_option_in_the_same_folder_is_one_sentence(call, pictures: Path, tmp_path: Path) -> None:
    words = ["data", "build", "folder", "--root", pictures, "--out", tmp_path / "out", "--workers", 1]
    assert call(*words)[0] == 0
    code, _, err = call(*words, "--seed", 3)
    assert code == 1 and "its seed is 0, now 3" in err


def test_texts_go_to_shards(call, tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text("".join(json.dumps({"text": f"Text {i}."}) + "\n" for i in range(9)))
    words = ["--root", tmp_path / "a.jsonl", "--layout", "jsonl", "--val", 0, "--test", 0, "--workers", 1]
    code, out, _ = call("data", "build", "text", *words, "--out", tmp_path / "out")
    assert code == 0 and "train 9 samples" in out
    assert [s.parts["txt"].decode() for s in iter_samples(tmp_path / "out/train/00000.tar")] == [
        f"Text {i}." for i in range(9)
    ]


def test_a_count_that_differs_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    jobs = shard_jobs({"train": [1]}, lambda shard, records: [Sample(key="a", parts={"txt": b"a"})], 1)
    build.build(Plan(recipe="few", arguments={}, jobs=jobs, expected={"train": 1200}), tmp_path / "out", 1)
    assert "differs from what is known of this source: train 1, expected 1,200" in capsys.readouterr().out


@pytest.mark.parametrize("command", PLANS, ids=lambda command: command.__name__)
def test_defaults_are_those_of_the_recipe(command) -> None:
    recipe = inspect.signature(PLANS[command]).parameters
    for name, parameter in inspect.signature(command).parameters.items():
        if name in recipe:
            assert parameter.default == recipe[name].default, name
        else:
            assert name in ("out", "workers")


def test_every_recipe_has_a_card() -> None:
    recipes = cli.COMMANDS["data"][1]["build"][1]  # type: ignore[index]
    assert {f"{name}.md" for name in recipes} <= {path.name for path in files(cards).iterdir()}
