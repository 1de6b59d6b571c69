"""Truth: two chapters and a foreword in three languages, laid out like Publican's pages and read by hand. Made up."""

from __future__ import annotations

from pathlib import Path

import pytest
from mm_mhmoe_data.recipes.debian_handbook import plan_debian_handbook
from mm_mhmoe_data.recipes.handbook_pages import Block, read_blocks, read_chapters

PAGE = (
    '<?xml version="1.0" encoding="UTF-8"?><!DOCTYPE html PUBLIC "-//W3C//DTD XHTML 1.0 Strict//EN" "x.dtd">'
    '<html xmlns="http://www.w3.org/1999/xhtml"><head><title>t</title>{up}</head><body>'
    '<p id="title"><a href="index.html">Product</a></p><ul class="docnav top"><li>Next</li></ul>{body}'
    '<ul class="docnav"><li><strong>Next</strong></li></ul></body></html>'
)
CONFIGURE = (
    '<div class="section"><div class="titlepage"><h2 class="title"><a id="x"></a>{title}</h2></div>'
    '<div class="para">\n\t\t{run} <code class="command">ls -l</code>: '
    '<pre class="screen">total 17</pre><div class="itemizedlist"><ul><li><div class="para">{item}</div></li></ul></div>'
    '{end}</div><div class="para"><pre class="programlisting">exit 0</pre></div>'
    '<div class="para">{see} <a class="xref" href="y.html">{section}</a>.</div>'
    '<div class="para">{more} <div xmlns="" class="url">→ <a href="https://x.org">https://x.org</a></div></div></div>'
)
ENGLISH = {
    "title": "8.2. Configuring",
    "run": "Run",
    "item": "an item;",
    "end": "That was it.",
    "see": "For more, see",
    "section": "Section 8.3",
    "more": "Read on.",
}
FRENCH = ENGLISH | {
    "title": "8.2. Configuration",
    "run": "Exécuter",
    "item": "un élément ;",
    "end": "C'est tout.",
    "section": "Section 8.3 « Ailleurs »",  # translated by the machine, the sentence around it was not
    "more": "Lire la suite.",
}


def page(path: Path, up: str, body: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(PAGE.format(up=f'<link rel="up" href="{up}" title="u" />' if up else "", body=body))


@pytest.fixture
def root(tmp_path: Path) -> Path:
    html = tmp_path / "root/usr/share/doc/debian-handbook/html"
    for language, words in (("en-US", ENGLISH), ("fr-FR", FRENCH), ("da-DK", ENGLISH)):
        book = html / language
        say = '<div class="para">{}</div>'.format
        page(book / "index.html", "", say(f"Cover {language}"))
        page(book / "foreword.html", "index.html", say(f"Foreword {language}"))
        for chapter in ("basic", "advanced", "last"):
            page(book / f"{chapter}.html", "index.html", say(f"Begin {chapter} {language}"))
            page(book / f"sect.{chapter}.html", f"{chapter}.html", CONFIGURE.format(**words))
    return tmp_path / "root"


def test_blocks_are_text_without_markup_and_keep_their_places(root: Path) -> None:
    html = root / "usr/share/doc/debian-handbook/html"
    assert [(b.kind, b.text) for b in read_blocks(html / "en-US/sect.basic.html")] == [
        ("title", "Configuring"),
        ("para", "Run ls -l: That was it."),
        ("para", "an item;"),
        ("para", ""),
        ("para", "For more, see Section 8.3."),
        ("para", "Read on."),
    ]
    french = read_blocks(html / "fr-FR/sect.basic.html")
    assert french[4] == Block(kind="para", text="For more, see Section 8.3 « Ailleurs ».", bare="For more, see .")


def test_chapters_follow_the_way_up(root: Path) -> None:
    chapters = read_chapters(root / "usr/share/doc/debian-handbook/html/en-US")
    assert chapters == {
        "advanced": ["advanced", "sect.advanced"],
        "basic": ["basic", "sect.basic"],
        "foreword": ["foreword"],
        "index": ["index"],
        "last": ["last", "sect.last"],
    }


def test_paragraphs_align_and_chapters_are_held_out_whole(root: Path, build) -> None:
    built = build(plan_debian_handbook(root, val_chapters=1, test_chapters=1))
    chapters = {}
    for split in ("train", "val", "test"):
        facts = built.facts(split)
        chapters[split] = {fact["chapter"] for fact in facts}
        by = {(f["paragraph"], f["language"]): text for f, text in zip(facts, built.texts(split), strict=True)}
        section = next(f"sect.{name}" for name in chapters[split] if name not in ("index", "foreword"))
        assert by[f"{section}/0001", "en-US"] == "Run ls -l: That was it."
        assert by[f"{section}/0001", "fr-FR"] == "Exécuter ls -l: C'est tout."
        assert by[f"{section}/0005", "fr-FR"] == "Lire la suite."
    assert chapters["train"] > {"index", "foreword"} and len(chapters["train"]) == 3
    assert len(chapters["val"]) == len(chapters["test"]) == 1 and chapters["val"] != chapters["test"]
    assert built.manifest["held_out"] == {"val": sorted(chapters["val"]), "test": sorted(chapters["test"])}


def test_what_is_not_translated_is_dropped_and_named(root: Path, build) -> None:
    built = build(plan_debian_handbook(root, val_chapters=0, test_chapters=0))
    assert {fact["language"] for fact in built.facts("train") if fact["paragraph"].startswith("sect.")} == {
        "en-US",
        "fr-FR",
    }
    reasons = {drop["what"]: drop["reason"] for drop in built.dropped}
    assert reasons["da-DK/sect.basic/0000"] == "not translated"
    assert reasons["fr-FR/sect.basic/0004"] == "not translated"
    assert reasons["en-US/sect.basic/0003"] == "no words beside a listing, list or link"
    # five blocks outside of sections and six in each of three sections, in each of three languages
    assert len(built.facts("train")) + len(built.dropped) == 3 * (5 + 3 * 6)


def test_shards_end_between_pages(root: Path, build) -> None:
    built = build(plan_debian_handbook(root, languages=["en-US"], val_chapters=0, test_chapters=0, samples_per_shard=7))
    # advanced 1 + 6, basic 1 + 6, foreword 1 + index 1 + last 1, its section 6; one block of each section is empty
    assert list(built.manifest["splits"]["train"]["shards"].values()) == [6, 6, 3, 5]


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"languages": ["xx-XX"]}, r"\['xx-XX'\] are not in the source. It has da-DK, en-US, fr-FR"),
        ({"test_chapters": 3}, "test_chapters=3 must leave some of the 3 chapters"),
        ({"test_chapters": 1, "samples_per_shard": 0}, "samples_per_shard=0"),
    ],
)
def test_unusable_arguments_are_named(root: Path, change: dict[str, object], told: str) -> None:
    with pytest.raises(ValueError, match=told):
        plan_debian_handbook(root, **change)  # type: ignore[arg-type]


def test_pages_that_differ_or_are_damaged_are_named(root: Path, build) -> None:
    french = root / "usr/share/doc/debian-handbook/html/fr-FR"
    page(french / "basic.html", "index.html", "")
    plan = plan_debian_handbook(root, val_chapters=0, test_chapters=0)
    with pytest.raises(ValueError, match=r"fr-FR/basic.html has 0 paragraphs and titles, the English page 1"):
        build(plan)
    (french / "basic.html").write_text("<html><body>")
    with pytest.raises(ValueError, match=r"fr-FR/basic.html is not well-formed"):
        build(plan)


def test_a_root_without_the_book_says_how_to_get_it(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="apt-get download debian-handbook"):
        plan_debian_handbook(tmp_path)
