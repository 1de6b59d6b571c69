"""The whole recipe on a small synthetic tree that is laid out like the unpacked packages."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import numpy as np
import pytest
from mm_mhmoe_data.recipes import openclipart
from mm_mhmoe_data.recipes.leaks import find_leaks, read_entries
from mm_mhmoe_data.recipes.openclipart import build_openclipart
from mm_mhmoe_data.shards import expand_shards
from PIL import Image, ImageDraw

ANIMALS = ["owl", "hen", "duck", "goose", "swan", "crow", "robin", "finch"]
FOODS = ["apple", "pear", "plum", "bread", "cheese", "soup", "cake", "pie"]
TOOLS = ["hammer", "saw", "drill", "wrench", "rake", "spade", "axe", "file"]


def _add(base: Path, name: str, title: str, seed: int, licence: str = "PublicDomain", colour: str = "") -> None:
    rng = np.random.default_rng(seed)
    image = Image.new("RGBA", (150, 120), (255, 255, 255, 0))
    draw = ImageDraw.Draw(image)
    fill = colour or ("crimson", "navy", "gold", "green")[seed % 4]
    for x, y, w, h in rng.integers(5, 60, size=(6, 4)).tolist():
        draw.ellipse((x, y, x + w, y + h), fill=fill, outline="black")
    png = base / "png" / f"{name}.png"
    svg = base / "svg" / f"{name}.svg"
    for path in (png, svg):
        path.parent.mkdir(parents=True, exist_ok=True)
    image.save(png)
    svg.write_text(
        '<svg xmlns:rdf="r" xmlns:cc="c" xmlns:dc="d"><cc:Work>'
        f"<dc:title>{title}</dc:title><dc:creator><cc:Agent><dc:title>Nobody</dc:title></cc:Agent></dc:creator>"
        f'<cc:license rdf:resource="http://web.resource.org/cc/{licence}"/></cc:Work></svg>'
    )


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("root")
    base = root / "usr/share/openclipart"
    seed = 0
    for folder, names in (("animals/birds", ANIMALS), ("food", FOODS), ("tools", TOOLS)):
        for name in names:
            for kind in ("old", "happy", "wooden"):
                seed += 1
                _add(base, f"{folder}/{kind}_{name}_01", f"{kind} {name}", seed)
    _add(base, "unsorted/copy_of_an_owl", "copy", 1)
    _add(base, "tools/private_tool", "private tool", 900, licence="by-nc")
    _add(base, "tools/blank", "blank", 901)
    Image.new("RGBA", (50, 50), (0, 0, 0, 0)).save(base / "png/tools/blank.png")
    _add(base, "unsorted/0001", "", 902)
    (base / "png/tools/lonely.png").write_bytes((base / "png/tools/blank.png").read_bytes())
    (base / "svg/tools/bomb.svg").write_text('<!DOCTYPE s [<!ENTITY x "y">]><svg>&x;</svg>')
    (base / "png/tools/bomb.png").write_bytes((base / "png/tools/blank.png").read_bytes())
    for package in ("openclipart-png", "openclipart-svg"):
        doc = root / "usr/share/doc" / package / "changelog.Debian.gz"
        doc.parent.mkdir(parents=True)
        doc.write_bytes(gzip.compress(b"openclipart (1:0.1-1) unstable; urgency=low\n"))
    return root


def _build(root: Path, out: Path, **changes: object) -> dict[str, object]:
    arguments: dict[str, object] = {
        "image_size": 48,
        "test": 8,
        "val": 6,
        "workers": 1,
        "progress": lambda *_: None,
    }
    return build_openclipart(root, out, **(arguments | changes))  # type: ignore[arg-type]


def _bytes(folder: Path) -> dict[str, bytes]:
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


@pytest.fixture(scope="module")
def built(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("out") / "demo"
    _build(root, out)
    return out


def test_manifest_counts_everything(built: Path) -> None:
    manifest = json.loads((built / "manifest.json").read_text())
    dropped = manifest["dropped"]
    for reason in (
        "near-duplicate of a kept picture",
        "no public-domain statement of its own",
        "blank picture",
        "no usable text",
        "no SVG beside it",
        "SVG not safe to read",
    ):
        assert dropped[reason] == 1, reason
    kept = sum(split["pictures"] for split in manifest["splits"].values())
    assert kept + sum(dropped.values()) == manifest["pictures_in_source"] == 78
    assert manifest["source"]["packages"]["openclipart-png"] == "1:0.1-1"
    assert manifest["splits"]["test"]["pictures"] >= 8 and manifest["splits"]["val"]["pictures"] >= 6
    assert str(built.parent) not in (built / "manifest.json").read_text() + (built / "README.md").read_text()


def test_shards_have_no_leaks_and_numbers_run_on(built: Path) -> None:
    entries = {
        name: read_entries([s.local() for s in expand_shards(built / name)]) for name in ("train", "val", "test")
    }
    assert find_leaks(entries) == []
    assert [path.name for name in entries for path in expand_shards(built / name)] == [
        "00000.tar",
        "00001.tar",
        "00002.tar",
    ]


def test_card_states_the_counts(built: Path) -> None:
    manifest = json.loads((built / "manifest.json").read_text())
    card = (built / "README.md").read_text()
    assert f"{manifest['splits']['train']['pictures']} training" in card
    assert "public domain" in card and "$" not in card.replace('"$package"', "")


def test_bytes_do_not_depend_on_the_number_of_workers(root: Path, built: Path, tmp_path: Path) -> None:
    _build(root, tmp_path / "again", workers=2)
    assert _bytes(tmp_path / "again") == _bytes(built)


def test_another_seed_gives_another_split(root: Path, built: Path, tmp_path: Path) -> None:
    _build(root, tmp_path / "other", seed=1)
    assert _bytes(tmp_path / "other")["test/00002.tar"] != _bytes(built)["test/00002.tar"]


def test_limits_thin_the_training_split_only(root: Path, built: Path, tmp_path: Path) -> None:
    manifest = _build(root, tmp_path / "small", max_train=20, max_questions=(10, None, None))
    full = json.loads((built / "manifest.json").read_text())
    assert manifest["splits"]["train"]["pictures"] == 20  # type: ignore[index]
    assert manifest["splits"]["train"]["questions"] <= 10  # type: ignore[index]
    assert manifest["splits"]["test"]["pictures"] == full["splits"]["test"]["pictures"]  # type: ignore[index]


def test_full_output_folder_is_refused_and_overwritten_when_asked(root: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / "mine.txt").write_text("precious")
    with pytest.raises(ValueError, match=r"not empty.*overwrite=True"):
        _build(root, out)
    assert (out / "mine.txt").exists()
    _build(root, out, overwrite=True)
    assert not (out / "mine.txt").exists() and (out / "manifest.json").exists()


def test_interruption_leaves_nothing(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(openclipart, "write_card", interrupt)
    with pytest.raises(KeyboardInterrupt):
        _build(root, tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


def test_a_leak_stops_the_recipe(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(openclipart, "find_leaks", lambda entries: ["train/1 and test/2 are twins"])
    with pytest.raises(RuntimeError, match="share 1 twins"):
        _build(root, tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("change", "message"),
    [({"image_size": 8}, "image_size=8"), ({"quality": 0}, "quality=0"), ({"test": 0}, "test=0")],
)
def test_bad_arguments_are_named(root: Path, tmp_path: Path, change: dict[str, int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        _build(root, tmp_path / "out", **change)


def test_a_root_without_pictures_says_how_to_get_them(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="apt-get download openclipart-png"):
        _build(tmp_path, tmp_path / "out")
