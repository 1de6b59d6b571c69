"""The report of the demo and a page about records, in headless Chromium: laptop and phone, light and dark."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from mm_mhmoe_data.pipeline import ShardDataset
from mm_mhmoe_eval.comparison import compare, read_systems
from mm_mhmoe_eval.report import write_report
from mm_mhmoe_eval.report.galleries import galleries
from mm_mhmoe_eval.report.record_page import RecordPage, write_records_page
from mm_mhmoe_eval.report_data import ReportData, picture_uri
from mm_mhmoe_eval.results import read_record, write_record

from mm_mhmoe.commands.sources import data_path

DEMO = Path(__file__).parents[2] / "eval" / "results" / "demo"
WINDOWS = [(1280, False), (1280, True), (390, False), (390, True)]


def looked_at(browser: Any, page: Path) -> None:
    address = page.as_uri()
    grounds = set()
    for width, dark in WINDOWS:
        browser.open(address, width, dark=dark)
        browser.js("document.querySelectorAll('img').forEach((image) => (image.loading = 'eager'))")
        browser.wait("[...document.images].every((image) => image.complete && image.naturalWidth > 0)")
        assert browser.errors == []
        assert browser.requests == [address]
        assert browser.overflow <= 0
        # Nothing sticks out of the window but what can be scrolled there.
        outside = "[...document.querySelectorAll('h1, h2, h3, .card, .scroll')]"
        assert browser.js(f"{outside}.every((box) => box.getBoundingClientRect().right <= innerWidth)")
        grounds.add(browser.js("getComputedStyle(document.body).backgroundColor"))
    assert len(grounds) == 2  # light and dark


def test_report_of_the_demo(browser: Any, report: ReportData, tmp_path: Path) -> None:
    write_report(report, tmp_path / "report.html")
    looked_at(browser, tmp_path / "report.html")


@pytest.fixture
def scored(tmp_path: Path) -> list[str]:
    """The demo's records of two models, with answers that are made up here: the demo has not kept its own."""
    dataset = ShardDataset(data_path("demo:test"), "images")
    places = []
    for name in ("main", "dense"):
        folder = tmp_path / name
        for task in ("retrieval", "vqa"):
            record = replace(read_record(DEMO / "seed_0" / name / f"{task}_openclipart.json"), kind=task)
            folder.mkdir(exist_ok=True)
            write_record(record, folder / f"{task}_openclipart.json")
        ranks = [1, 3, 41, 1, 200, 2]
        retrieval = [
            {"key": dataset.keys[i], "caption": f"<i>caption</i> {i}", "image_rank": rank, "text_rank": 7 - i}
            | {"top_images": dataset.keys[i : i + 5], "top_captions": [f"caption {n}" for n in range(5)]}
            for i, rank in enumerate(ranks)
        ]
        vqa = [
            {"image_key": dataset.keys[i], "question": "what is it?", "answers": ["dog"] * 10, "answer": answer}
            | {"score": score}
            for i, (answer, score) in enumerate([("dog", 1.0), ("cat", 0.0), ("hound", 0.3)] * 3)
        ]
        for task, samples in (("retrieval", retrieval), ("vqa", vqa)):
            text = "".join(json.dumps(sample) + "\n" for sample in samples)
            (folder / f"{task}_openclipart.samples.jsonl").write_text(text)
        places.append(f"{name}={folder}")
    return places


def test_page_about_records(browser: Any, report: ReportData, scored: list[str], tmp_path: Path) -> None:
    systems = read_systems(scored)
    dataset = ShardDataset(data_path("demo:test"), "images")
    place = {key: number for number, key in enumerate(dataset.keys)}
    shown = {
        f"{kind}_openclipart": galleries(
            f"{kind}_openclipart", kind, systems, lambda key: picture_uri(dataset.picture(place[key])), count=4
        )
        for kind in ("retrieval", "vqa")
    }
    retrieval, vqa = shown.values()
    assert retrieval[0].title == "A caption looks for its picture"
    assert [card.answers[0].score for card in retrieval[0].cards[:2]] == [1.0, 1.0]
    assert all(card.answers[0].score < 1 for card in retrieval[0].cards[2:])
    assert [hit for _, hit in retrieval[0].cards[0].answers[1].hits] == [True, False, False, False, False]
    assert [card.answers[0].score == 1 for card in vqa[0].cards] == [True, True, False, False]
    page = RecordPage(
        title="Scores", systems=systems, tables=compare(systems), galleries=shown, expert_maps=report.expert_maps
    )
    write_records_page(page, tmp_path / "page.html")
    text = (tmp_path / "page.html").read_text()
    assert "&lt;i&gt;caption&lt;/i&gt;" in text and "<script" not in text and "p=" in text
    assert "52.8" in text and "question only" in text and "vqa by question type" in text
    looked_at(browser, tmp_path / "page.html")


def test_the_command(call: Callable[..., tuple[int, str, str]], scored: list[str], tmp_path: Path) -> None:
    code, out, _ = call("eval", "report", *scored, "--out", tmp_path / "page.html", "--samples", 4)
    assert code == 0 and "report:" in out
    text = (tmp_path / "page.html").read_text()
    assert text.count('class="card said"') == 12 and "No expert maps" in text
    code, _, err = call("eval", "report", *scored, "--out", tmp_path / "page.html", "--shards", "demo:val")
    assert code == 1 and "was scored on other ones" in err
