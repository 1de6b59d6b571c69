"""The parts of the Open Clip Art recipe: metadata, captions, pictures, twins, clusters, leaks, questions."""

from __future__ import annotations

import io
from collections import Counter
from pathlib import Path, PurePosixPath

import numpy as np
import pytest
from mm_mhmoe_data.recipes.captions import CaptionRejected, make_caption
from mm_mhmoe_data.recipes.clusters import PER_CAPTION, Item, cluster_items, title_key
from mm_mhmoe_data.recipes.colours import main_colour
from mm_mhmoe_data.recipes.fingerprints import (
    SAME_PICTURE,
    TWIN,
    Fingerprints,
    fingerprint,
    stack,
    twin_pairs,
)
from mm_mhmoe_data.recipes.leaks import Entry, find_leaks
from mm_mhmoe_data.recipes.pictures import PictureRejected, render_picture
from mm_mhmoe_data.recipes.question_words import Picture, Vocabulary, head_nouns
from mm_mhmoe_data.recipes.questions import make_questions
from mm_mhmoe_data.recipes.svg_metadata import MetadataRejected, SvgMetadata, read_svg_metadata
from mm_mhmoe_data.recipes.vocabulary import Folders, Glossary
from mm_mhmoe_data.recipes.vqa_files import question_only_score
from PIL import Image, ImageDraw

GLOSSARY, FOLDERS = Glossary.load(), Folders.load()


def _svg(path: Path, work: str, head: str = "") -> Path:
    path.write_text(
        f'<?xml version="1.0"?>{head}<svg xmlns:rdf="r" xmlns:cc="c" xmlns:dc="d"><metadata><rdf:RDF>'
        f"<cc:Work>{work}</cc:Work></rdf:RDF></metadata><title>not this</title></svg>"
    )
    return path


def test_metadata_takes_the_title_of_the_work_only(tmp_path: Path) -> None:
    svg = _svg(
        tmp_path / "a.svg",
        "<dc:creator><cc:Agent><dc:title>Ann Author</dc:title></cc:Agent></dc:creator>"
        "<dc:title>Salt &amp;amp; Pepper</dc:title>"
        "<dc:subject><rdf:Bag><rdf:li>Food</rdf:li><rdf:li/><rdf:li>food</rdf:li></rdf:Bag></dc:subject>"
        '<cc:license rdf:resource="http://web.resource.org/cc/PublicDomain"/>',
    )
    assert read_svg_metadata(svg) == SvgMetadata(
        title="Salt & Pepper",
        keywords=("food",),
        creator="Ann Author",
        licence="http://web.resource.org/cc/PublicDomain",
    )


def test_entities_and_large_files_are_refused(tmp_path: Path) -> None:
    bomb = _svg(tmp_path / "a.svg", "<dc:title>&x;</dc:title>", head='<!DOCTYPE svg [<!ENTITY x "boom">]>')
    with pytest.raises(MetadataRejected, match="entities"):
        read_svg_metadata(bomb)
    with pytest.raises(MetadataRejected, match="larger than 50"):
        read_svg_metadata(_svg(tmp_path / "b.svg", "<dc:title>x</dc:title>"), max_bytes=50)
    (tmp_path / "c.svg").write_text("<svg")
    with pytest.raises(MetadataRejected, match="not well-formed"):
        read_svg_metadata(tmp_path / "c.svg")


@pytest.mark.parametrize(
    ("path", "title", "caption"),
    [
        ("recreation/games/cards/white/white_h_q.png", "card", "queen of hearts, playing card"),
        ("shapes/stars/star_05pt02step.png", "gramastar", "star with 5 points"),
        ("shapes/stars/star_38pt03step.png", "gramastar", "star with many points"),
        ("signs_and_symbols/flags/asia/nepal.png", "Nepal", "flag of nepal, asia"),
        (
            "signs_and_symbols/flags/america/montserrat.png",
            "United Kingdom - Montserrat",
            "flag of montserrat, america",
        ),
        ("signs_and_symbols/clocks/clock12.png", "Clipart by Nicu Buculei - clock12", "clock"),
        ("food/apple_bitten_dan_gerhard_01.png", "Apple Bitten", "apple bitten, food"),
        ("food/crawfish1_bw_ganson.png", "Crawfish (B and W)", "black and white crawfish, food"),
        ("animals/mammals/horses/cavallo_architetto_franc_01.png", "Cavallo", "horse"),
        (
            "computer/icons/lemon-theme/actions/filesaveas.png",
            "Lemon SVG theme",
            "save file as, lemon theme icon",
        ),
        (
            "transportation/aiga-symbols/aiga_coffee_shop1.png",
            "AIGA_Symbol_Signs",
            "coffee shop, public sign",
        ),
        ("signs_and_symbols/led/led_circle_red.png", "LED Circle (Red)", "red circle led light"),
        ("shapes/pill-button-red_benji_park_01.png", "pill-button-red", "red pill button, shape"),
    ],
)
def test_captions(path: str, title: str, caption: str) -> None:
    made = make_caption(PurePosixPath(path), SvgMetadata(title=title), GLOSSARY, FOLDERS, {})
    assert made.text == caption


def test_a_title_that_is_the_author_falls_back_to_the_folder() -> None:
    author = SvgMetadata(title="Mirjam Meijer", creator="Mirjam Meijer")
    made = make_caption(PurePosixPath("plants/flowers/mirjam_meijer_mirjam_mei_01.png"), author, GLOSSARY, FOLDERS, {})
    assert made.text == "flower"
    with pytest.raises(CaptionRejected, match="no usable text"):
        make_caption(PurePosixPath("unsorted/mirjam_meijer_01.png"), author, GLOSSARY, FOLDERS, {})


def test_the_name_of_a_program_is_no_caption() -> None:
    icon = PurePosixPath("computer/icons/lemon-theme/apps/kugar.png")
    with pytest.raises(CaptionRejected, match="names a program"):
        make_caption(icon, SvgMetadata(title="kugar"), GLOSSARY, FOLDERS, {})


def test_series_ignores_numbers_and_colours() -> None:
    first, second = (
        make_caption(PurePosixPath(f"tools/{stem}.png"), SvgMetadata(title="folder"), GLOSSARY, FOLDERS, {}).series
        for stem in ("folder_red_01", "folder_blue_02")
    )
    assert first == second == "tools/folder"


def _png(path: Path, image: Image.Image) -> Path:
    image.save(path)
    return path


def test_pictures_are_trimmed_and_centred_on_white(tmp_path: Path) -> None:
    image = Image.new("RGBA", (400, 300), (0, 0, 0, 0))
    ImageDraw.Draw(image).rectangle((10, 10, 209, 59), fill=(200, 0, 0, 255))
    picture = render_picture(_png(tmp_path / "a.png", image), image_size=64, quality=90)
    assert (picture.width, picture.height, picture.original_width, picture.original_height) == (
        64,
        64,
        400,
        300,
    )
    pixels = np.asarray(Image.open(io.BytesIO(picture.content)))
    assert pixels[0, 0].min() > 240 and pixels[10, 32].min() > 240
    assert pixels[32, 32, 0] > 180 and pixels[32, 32, 1] < 40 and pixels[32, 4, 1] < 60


@pytest.mark.parametrize(
    ("image", "reason"),
    [
        (Image.new("RGBA", (50, 50), (0, 0, 0, 0)), "blank picture"),
        (Image.new("RGB", (50, 50), "white"), "blank picture"),
        (Image.new("RGB", (6, 6), "red"), "picture too small"),
        (Image.new("1", (8000, 6000)), "more pixels than the decoding limit"),
    ],
)
def test_unusable_pictures_are_refused(tmp_path: Path, image: Image.Image, reason: str) -> None:
    with pytest.raises(PictureRejected, match=reason):
        render_picture(_png(tmp_path / "a.png", image), image_size=64, quality=60)


def test_another_format_under_the_name_png_is_refused(tmp_path: Path) -> None:
    Image.new("RGB", (50, 50), "red").save(tmp_path / "a.png", "GIF")
    with pytest.raises(PictureRejected, match="unreadable"):
        render_picture(tmp_path / "a.png", image_size=64, quality=60)


def _jpeg(seed: int, *, quality: int = 80, fill: str = "red", shift: int = 0) -> bytes:
    """A drawing of random boxes; `shift` moves it a little."""
    rng = np.random.default_rng(seed)
    image = Image.new("RGB", (112, 112), "white")
    draw = ImageDraw.Draw(image)
    for x, y, w, h in rng.integers(6, 50, size=(5, 4)).tolist():
        draw.rectangle((x + shift, y, x + w + shift, y + h), fill=fill, outline="black")
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=quality)
    return buffer.getvalue()


def _prints(*jpegs: bytes) -> Fingerprints:
    return stack([fingerprint(jpeg) for jpeg in jpegs])


def test_twins_survive_compression_but_not_another_drawing_or_colour() -> None:
    prints = _prints(_jpeg(1), _jpeg(1, quality=30), _jpeg(2), _jpeg(1, fill="blue"))
    for rule in (SAME_PICTURE, TWIN):
        assert [(i, j) for i, j in twin_pairs(prints, prints, rule) if i < j] == [(0, 1)]


def _item(name: str, caption: str, series: str | None = None) -> Item:
    return Item(path=f"animals/{name}.png", title=caption, caption=caption, series=series or name)


def test_clusters_join_twins_captions_titles_and_series() -> None:
    items = [
        _item("a", "owl"),
        _item("b", "night bird"),  # the same picture as a
        _item("c", "red fox"),
        _item("d", "blue fox"),  # the same title but for colour
        _item("e", "cow", "s"),
        _item("f", "bull", "s"),  # the same series
        _item("g", "hen"),
    ]
    clusters = cluster_items(items, _prints(_jpeg(1), _jpeg(1, quality=50), *(_jpeg(seed) for seed in range(3, 8))))
    roots = clusters.cluster
    assert roots[0] == roots[1] and roots[2] == roots[3] and roots[4] == roots[5]
    assert len(set(roots)) == 4
    assert clusters.kept == [0, 2, 3, 4, 5, 6]
    assert clusters.dropped == Counter({"near-duplicate of a kept picture": 1})


def test_one_caption_is_kept_a_few_times_only() -> None:
    items = [_item(f"x{i}", "owl") for i in range(PER_CAPTION + 2)]
    clusters = cluster_items(items, _prints(*(_jpeg(seed) for seed in range(20, 20 + len(items)))))
    assert len(clusters.kept) == PER_CAPTION and len(set(clusters.cluster)) == 1


def test_title_keys() -> None:
    assert title_key("blue arrow right") == title_key("right arrows red")
    assert title_key("flag of niger") != title_key("flag of nigeria")
    assert title_key("red") == "red"


def _entry(key: str, caption: str, jpeg: bytes, cluster: int, series: str) -> Entry:
    return Entry(key=key, caption=caption, title=caption, cluster=cluster, series=series, print=fingerprint(jpeg))


def test_the_leak_check_finds_every_kind_of_twin() -> None:
    train = [_entry("1", "owl", _jpeg(1), 1, "a"), _entry("2", "cow", _jpeg(2), 2, "b")]
    clean = _entry("3", "hen", _jpeg(3), 3, "c")
    assert find_leaks({"train": train, "test": [clean]}) == []
    planted = {
        "twins in the picture": _entry("3", "hen", _jpeg(1, quality=40), 3, "c"),
        "share the caption": _entry("3", "owl", _jpeg(3), 3, "c"),
        "share the title": _entry("3", "small red owls", _jpeg(3), 3, "c"),
        "share the cluster": _entry("3", "hen", _jpeg(3), 2, "c"),
        "share the series": _entry("3", "hen", _jpeg(3), 3, "b"),
        "share the key": _entry("2", "hen", _jpeg(3), 3, "c"),
    }
    for what, entry in planted.items():
        assert any(what in leak for leak in find_leaks({"train": train, "val": [clean], "test": [entry]})), what
    twice = [clean, _entry("4", "hen", _jpeg(4), 4, "d")]
    assert find_leaks({"train": train, "test": twice}) == ["test holds the caption 'hen' more than once"]


@pytest.mark.parametrize(
    ("rgb", "name"),
    [
        ((220, 20, 20), "red"),
        ((250, 140, 20), "orange"),
        ((250, 230, 30), "yellow"),
        ((30, 160, 40), "green"),
        ((30, 60, 200), "blue"),
        ((130, 40, 190), "purple"),
        ((250, 120, 190), "pink"),
        ((120, 70, 30), "brown"),
        ((10, 10, 10), "black"),
        ((140, 140, 140), "gray"),
    ],
)
def test_colour_names(rgb: tuple[int, int, int], name: str) -> None:
    image = Image.new("RGB", (64, 64), "white")
    ImageDraw.Draw(image).rectangle((10, 10, 50, 50), fill=rgb, outline="black")
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=95)
    found = main_colour(buffer.getvalue())
    assert found is not None and found[0] == name


def test_two_equal_colours_have_no_main_colour() -> None:
    image = Image.new("RGB", (64, 64), "white")
    ImageDraw.Draw(image).rectangle((0, 10, 31, 50), fill="red")
    ImageDraw.Draw(image).rectangle((32, 10, 63, 50), fill="blue")
    buffer = io.BytesIO()
    image.save(buffer, "JPEG")
    assert main_colour(buffer.getvalue()) is None


def _picture(number: int, title: str, context: str, fill: str) -> Picture:
    return Picture(
        image_id=number,
        title=title,
        context=context,
        category="animals",
        keywords=(),
        folder="animals",
        content=_jpeg(number, fill=fill),
    )


def test_questions_are_balanced_and_answered_from_the_metadata() -> None:
    pictures = [_picture(i, "grey owl", "bird", "red") for i in range(10)]
    pictures += [_picture(10 + i, "fat cow", "animal", "blue") for i in range(10)]
    vocabulary = Vocabulary(objects=frozenset({"owl", "cow", "bird"}), categories=frozenset())
    questions = make_questions(pictures, vocabulary, seed="0")
    assert questions == make_questions(pictures, vocabulary, seed="0")
    by_text: dict[str, Counter[str]] = {}
    for question in questions:
        assert len(question.answers) == 10
        if question.answer_type == "yes/no":
            by_text.setdefault(question.text, Counter())[question.answers[0]] += 1
            if "owl" in question.text:
                assert question.answers[0] == ("yes" if question.image_id < 10 else "no")
    assert any("owl" in text for text in by_text) and any("color" in text for text in by_text)
    assert all(counts["yes"] == counts["no"] for counts in by_text.values())
    shows = [question for question in questions if question.question_type == "what is"]
    assert {question.answers[0] for question in shows} == {"owl", "cow"}
    assert len(make_questions(pictures, vocabulary, seed="0", limit=20)) <= 20
    assert question_only_score(questions, questions)["is this"] == 0.5


def test_head_nouns() -> None:
    assert head_nouns(_picture(0, "flag of laos", "asia", "red")) == ["flag"]
    assert head_nouns(_picture(0, "bunches of cherries", "fruit", "red")) == ["bunch", "fruit"]
    assert head_nouns(_picture(0, "save file", "computer icon", "red")) == []
