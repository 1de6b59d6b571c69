"""Truth: a small tree laid out like the package, whose captions and pictures are made up."""

from __future__ import annotations

import gzip
import io
from pathlib import Path

import pytest
from mm_mhmoe_data.recipes.tuxpaint import plan_tuxpaint
from mm_mhmoe_data.recipes.tuxpaint_stamps import read_captions, read_stamps
from PIL import Image

CROW = "A crow.\npt_BR.utf8=Um corvo.\nsr@latin.utf8=Vrana.\nca@valencia.utf8=Un corb.\nde.utf8=\nfr.utf8=Un corbeau.\n"


def quiet(*_: object) -> None:
    """Progress that nobody sees."""


def shares(**changes: object) -> dict[str, object]:
    return {
        "image_size": 32,
        "samples_per_shard": 20,
        "val": 0.3,
        "test": 0.3,
        "svg": False,
        "workers": 1,
        "progress": quiet,
    } | changes


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory, draw) -> Path:
    root = tmp_path_factory.mktemp("root")
    stamps = root / "usr/share/tuxpaint/stamps"
    for seed in range(40):
        draw(stamps / f"food/fruit/{seed:02d}.png", seed)
        (stamps / f"food/fruit/{seed:02d}.txt").write_text(
            f"Fruit {chr(97 + seed % 26) * 3} {chr(97 + seed // 26) * 4}.\n"
        )
    draw(stamps / "animals/birds/crow.png", 100, (300, 200))
    (stamps / "animals/birds/crow.txt").write_text(CROW)
    (stamps / "animals/birds/crow.dat").write_text("noflip\n")
    for seed, name in enumerate("abc"):  # one caption, three drawings
        draw(stamps / f"plants/flower_{name}.png", 200 + seed)
        (stamps / f"plants/flower_{name}.txt").write_text("A flower.\nfr.utf8=Une fleur.\n")
    draw(stamps / "animals/birds/crow_mirror.png", 300)
    (stamps / "food/nothing.txt").write_text("Nothing.\n")
    (stamps / "food/silent.txt").write_text("\nfr.utf8=Rien.\n")
    draw(stamps / "food/silent.png", 301)
    (stamps / "food/broken.txt").write_text("Broken.\n")
    (stamps / "food/broken.png").write_bytes(b"\x89PNG no more")
    (stamps / "food/line.txt").write_text("A line.\n")
    (stamps / "food/line.svg").write_text(
        '<svg xmlns="http://www.w3.org/2000/svg" width="40mm" height="20mm"><rect width="40%" height="90%"/></svg>'
    )
    (stamps / "animals/birds/crow_desc.ogg").write_bytes(b"caw")
    doc = root / "usr/share/doc/tuxpaint-stamps-default/changelog.Debian.gz"
    doc.parent.mkdir(parents=True)
    doc.write_bytes(gzip.compress(b"tuxpaint-stamps (2022.06.04-1) unstable; urgency=medium\n"))
    return root


@pytest.fixture
def built(root: Path, build):
    return build(plan_tuxpaint(root, **shares()))


def test_captions_by_language(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text(CROW)
    assert read_captions(tmp_path / "a.txt") == {
        "en": "A crow.",
        "pt-BR": "Um corvo.",
        "sr-Latn": "Vrana.",
        "ca-valencia": "Un corb.",
        "fr": "Un corbeau.",
    }
    (tmp_path / "b.txt").write_bytes(b"A caf\xe9.\n")
    with pytest.raises(ValueError, match=r"b\.txt is not UTF-8 \(byte 5\)"):
        read_captions(tmp_path / "b.txt")


def test_everything_is_a_sample_or_is_named(built) -> None:
    facts = [f for split in ("train", "val", "test") for f in built.facts(split)]
    assert len(facts) + len(built.dropped) == 40 + 1 + 3 + 5  # fruit, crow, flowers, and what cannot be used
    reasons = {(drop["what"], drop["reason"]) for drop in built.dropped}
    assert reasons >= {
        ("animals/birds/crow_mirror.png", "picture without a caption"),
        ("food/nothing.txt", "caption without a picture"),
        ("food/silent.txt", "no English caption"),
        ("food/broken.png", "unreadable picture"),
        ("food/line.svg", "SVG drawing"),
    }
    crow = next(f for f in facts if f["caption"] == "A crow.")
    assert crow["captions"]["pt-BR"] == "Um corvo." and crow["category"] == "animals/birds" and crow["noflip"]
    assert (crow["width"], crow["height"], crow["original_width"]) == (48, 32, 300)
    assert built.manifest["source"]["version"] == "2022.06.04-1"
    assert built.manifest["counts"] == {"captioned pictures": 44, "languages": 5}


def test_a_sample_holds_picture_and_caption(built) -> None:
    for sample in built.samples("train"):
        assert set(sample.parts) == {"webp", "txt", "json"}
        assert min(Image.open(io.BytesIO(sample.parts["webp"])).size) == 32


def test_one_caption_is_in_one_split_and_once_where_models_are_scored(built) -> None:
    where = [split for split in ("train", "val", "test") for text in built.texts(split) if text == "A flower."]
    dropped = sum(drop["reason"] == "caption that val or test already has" for drop in built.dropped)
    assert len(set(where)) == 1 and len(where) + dropped == 3
    assert dropped == (0 if where[0] == "train" else 2)
    assert all(len(built.texts(split)) > 2 for split in ("val", "test"))


def test_twins_are_in_one_split(root: Path, tmp_path: Path, build, draw) -> None:
    stamps = tmp_path / "stamps"
    (stamps / "animals").mkdir(parents=True)
    for seed in range(12):
        for copy in "ab":  # the same drawing under two names
            draw(stamps / f"animals/{seed}{copy}.png", seed)
            (stamps / f"animals/{seed}{copy}.txt").write_text(f"{chr(97 + seed) * 3} {copy * 5}.\n")
    built = build(plan_tuxpaint(stamps, **shares()))
    found = {split: {Path(f["url"]).stem[:-1] for f in built.facts(split)} for split in ("train", "val", "test")}
    assert all(found.values())
    assert not found["train"] & found["val"] | found["train"] & found["test"] | found["val"] & found["test"]


def test_svg_is_drawn(root: Path, build) -> None:
    pytest.importorskip("resvg_py")
    built = build(plan_tuxpaint(root, **shares(svg=True, val=0.0, test=0.0)))
    sample = next(s for s in built.samples("train") if s.parts["txt"] == b"A line.")
    picture = Image.open(io.BytesIO(sample.parts["webp"])).convert("L")
    assert picture.height == 32 and abs(picture.width - 64) <= 1  # 40 x 20 mm, rounded to whole pixels twice
    assert picture.getpixel((10, 10)) < 40 and picture.getpixel((40, 10)) > 220  # type: ignore[operator]


def test_svg_without_resvg_says_what_to_install(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "resvg_py", None)
    with pytest.raises(ValueError, match=r"pip install 'mm-mhmoe\[svg\]'.*--svg false"):
        plan_tuxpaint(root, **shares(svg=True))


def test_png_wins_over_svg(tmp_path: Path, draw) -> None:
    draw(tmp_path / "a.png", 0)
    (tmp_path / "a.svg").write_text("<svg/>")
    (tmp_path / "a.txt").write_text("A.\n")
    stamps, dropped = read_stamps(tmp_path, svg=True)
    assert [stamp.picture for stamp in stamps] == ["a.png"] and dropped == []


def test_a_root_without_stamps_says_how_to_get_them(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="apt-get download tuxpaint-stamps-default"):
        plan_tuxpaint(tmp_path)
