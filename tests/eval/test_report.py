from __future__ import annotations

import json
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
import torch
from mm_mhmoe_eval.report import render, write_report
from mm_mhmoe_eval.report.charts import nice_ticks, thinned
from mm_mhmoe_eval.report.numbers import compact, duration, points, times
from mm_mhmoe_eval.report.verdicts import RECALL, VQA, compare, verdicts
from mm_mhmoe_eval.report_data import (
    Curve,
    Gallery,
    ReportData,
    RunFacts,
    ScoreRow,
    load_report_data,
    picture_uri,
    save_report_data,
)
from mm_mhmoe_eval.terminal import print_scores
from PIL import Image
from rich.console import Console

SECTIONS = ("scores", "retrieval", "questions", "masked", "experts", "maps", "curves", "method")
VOID = {"meta", "img", "br", "hr"}


class Page(HTMLParser):
    """Checks that every element is closed in order, and collects what the tests ask for."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.ids: list[str] = []
        self.attributes: list[tuple[str, str, str]] = []
        self.text: list[str] = []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag not in VOID:
            self.open.append(tag)
        for name, value in attrs:
            self.attributes.append((tag, name, value or ""))
            if name == "id":
                self.ids.append(value or "")

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] != "style":
            self.text.append(data)


def bare(report: ReportData) -> ReportData:
    return ReportData(facts=report.facts, scores=report.scores)


def test_every_section_is_there(report: ReportData) -> None:
    page = Page(render(report))
    assert page.ids == list(SECTIONS)
    links = [value for tag, name, value in page.attributes if (tag, name) == ("a", "href")]
    assert links == [f"#{section}" for section in SECTIONS]
    assert any(report.notice in text for text in page.text if report.notice)


def test_nothing_is_loaded_from_elsewhere(report: ReportData) -> None:
    text = render(report)
    for tag, name, value in Page(text).attributes:
        if name in ("src", "href", "srcset", "action", "data", "poster", "background", "xlink:href"):
            assert value.startswith(("data:image/", "#")), (tag, name, value)
        if name == "style":
            assert all(url.startswith("data:image/") for url in re.findall(r"url\(([^)]*)", value))
        assert not name.startswith("on")
    assert not re.search(r"https?://|//[a-z]+\.|@import|<script|<link", text, re.IGNORECASE)
    style = re.search(r"<style>(.*?)</style>", text, re.DOTALL)
    assert style
    assert "url(" not in style.group(1)


def test_text_is_escaped_everywhere(report: ReportData) -> None:
    evil = "<script>alert(1)</script>\"'><img src=x>"

    def replace_texts(value: object, key: str = "") -> object:
        """Every text but those that the schema restricts."""
        if isinstance(value, dict):
            return {name: replace_texts(item, name) for name, item in value.items()}
        if isinstance(value, list):
            return [replace_texts(item, key) for item in value]
        if isinstance(value, str) and key != "role" and not value.startswith("data:"):
            return evil
        return value

    values = replace_texts(report.to_dict())
    assert isinstance(values, dict)
    values["facts"]["extra"] = {evil: evil}
    values["method"]["data_card"] = {evil: evil}
    text = render(ReportData.from_dict(values))
    page = Page(text)
    assert "<script" not in text
    assert all(value != "x" for tag, name, value in page.attributes if name == "src")
    assert sum(evil in part for part in page.text) > 60


def test_a_picture_from_elsewhere_is_refused(report: ReportData) -> None:
    for uri in (
        "https://example.org/x.png",
        'data:image/png;base64,AA" onload="x',
        "data:image/svg+xml;base64,AA==",
    ):
        assert report.gallery is not None
        query = replace(report.gallery.picture_queries[0], picture=uri)
        data = replace(report, gallery=Gallery(rule="One.", picture_queries=[query]))
        with pytest.raises(ValueError, match="picture_uri"):
            render(data)


@pytest.mark.parametrize("missing", ["gallery", "vqa", "masked", "experts", "expert_maps", "method"])
def test_a_missing_section_is_left_out(report: ReportData, missing: str) -> None:
    page = Page(render(replace(report, **{missing: None})))
    assert len(page.ids) == len(SECTIONS) - 1


def test_the_least_report() -> None:
    page = Page(render(ReportData(facts=RunFacts(wall_seconds=3), scores=[])))
    assert page.ids == []
    only = ScoreRow(name="main", role="main", scores={"vqa": [0.5]})
    assert Page(render(ReportData(facts=RunFacts(wall_seconds=3), scores=[only]))).ids == ["scores"]


def test_json_round_trip(report: ReportData, tmp_path: Path) -> None:
    save_report_data(report, tmp_path / "report.json")
    again = load_report_data(tmp_path / "report.json")
    assert again == report
    write_report(again, tmp_path / "report.html")
    assert (tmp_path / "report.html").read_text(encoding="utf-8") == render(report)


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        (("facts", "wall_seconds"), "long", r"report\.facts\.wall_seconds"),
        (("scores", 0, "role"), "winner", r"report\.scores\[0\]\.role"),
        (("scores", 0, "scores", "vqa"), 0.5, r"scores\.vqa needs a list"),
        (("surprise",), 1, "unknown fields surprise"),
        (("gallery",), {}, "rule"),
        (("scores", 1, "role"), "main", "several score rows"),
    ],
)
def test_wrong_json_is_named(report: ReportData, tmp_path: Path, path: tuple, value: object, message: str) -> None:
    values = report.to_dict()
    place = values
    for step in path[:-1]:
        place = place[step]
    place[path[-1]] = value
    file = tmp_path / "report.json"
    file.write_text(json.dumps(values))
    with pytest.raises(ValueError, match=message) as error:
        load_report_data(file)
    assert str(file) in str(error.value)


def two_rows(main: list[float], control: list[float], tests: int | None) -> ReportData:
    return ReportData(
        facts=RunFacts(wall_seconds=1),
        test_pairs=tests,
        scores=[
            ScoreRow(name="main", role="main", scores={RECALL: main}),
            ScoreRow(name="control", role="no_pretraining", scores={RECALL: control}),
        ],
    )


@pytest.mark.parametrize(
    ("main", "control", "tests", "outcome", "words"),
    [
        ([0.5], [0.3], 500, "better", "Masked pretraining helps on recall@10"),
        ([0.3], [0.5], 500, "worse", "Masked pretraining hurts on recall@10"),
        ([0.31], [0.30], 500, "unclear", "no clear difference"),
        ([0.5], [0.3], 20, "unclear", "no clear difference"),
        ([0.5], [0.3], None, "unclear", "no clear difference"),
        # The spread over seeds decides when it is larger: mean 0.1, standard error 0.2 / sqrt(3) = 0.115.
        ([0.5, 0.6, 0.7], [0.6, 0.5, 0.4], 100_000, "unclear", "no clear difference"),
    ],
)
def test_verdicts_follow_the_numbers(
    main: list[float], control: list[float], tests: int | None, outcome: str, words: str
) -> None:
    (verdict,) = verdicts(two_rows(main, control, tests))
    assert verdict.outcome == outcome
    assert words in verdict.head
    assert words.split()[0] in " ".join(Page(render(two_rows(main, control, tests))).text)


def test_the_standard_error_of_a_difference() -> None:
    comparison = compare(two_rows([0.5], [0.3], 100), "no_pretraining", RECALL)
    assert comparison is not None
    assert comparison.error == pytest.approx(((0.25 + 0.21) / 100) ** 0.5)
    seeds = compare(two_rows([0.5, 0.7], [0.3, 0.3], None), "no_pretraining", RECALL)
    assert seeds is not None
    # Differences 0.2 and 0.4: standard deviation 0.1414, over sqrt(2).
    assert seeds.error == pytest.approx(0.1)
    assert compare(two_rows([0.5], [0.3], 100), "no_pretraining", VQA) is None
    assert compare(two_rows([0.5], [0.3], 100), "dense", RECALL) is None


def test_the_same_queries_are_compared_in_pairs() -> None:
    """Truth: the one-sample standard error of the differences, by numpy. Unpaired it would be 0.22."""
    ours, theirs = (
        [1.0, 1.0, 1.0, 0.0, 1.0, 0.0, 1.0, 1.0, 0.0, 1.0],
        [1.0, 1.0, 0.0, 0.0, 1.0, 0.0, 0.0, 1.0, 0.0, 0.0],
    )
    data = two_rows([np.mean(ours)], [np.mean(theirs)], 10)
    rows = [replace(row, per_sample={RECALL: values}) for row, values in zip(data.scores, (ours, theirs), strict=True)]
    comparison = compare(replace(data, scores=rows), "no_pretraining", RECALL)
    assert comparison is not None
    difference = np.subtract(ours, theirs)
    assert comparison.error == pytest.approx(difference.std(ddof=1) / 10**0.5)
    other = [rows[0], replace(rows[1], per_sample={RECALL: theirs[:-1]})]  # not the same queries: not paired
    unpaired = compare(replace(data, scores=other), "no_pretraining", RECALL)
    assert unpaired is not None and unpaired.error == pytest.approx((0.7 * 0.3 / 10 + 0.4 * 0.6 / 10) ** 0.5)


def test_best_of_a_column_is_marked(report: ReportData) -> None:
    rows = [
        ScoreRow(name="a", role="main", scores={"vqa": [0.4]}),
        ScoreRow(name="b", role="dense", scores={"vqa": [0.6]}),
        ScoreRow(name="c", role="question_only", scores={"vqa": [0.9]}),
    ]
    text = render(ReportData(facts=report.facts, scores=rows))
    assert re.findall(r'<td class="[^"]*best[^"]*">([0-9.]+)', text) == ["60.0"]


def test_lengths_that_do_not_fit_are_refused(report: ReportData) -> None:
    curve = Curve(label="x", steps=[1, 2], values=[1.0])
    with pytest.raises(ValueError, match="2 steps but 1 values"):
        thinned(curve)
    with pytest.raises(ValueError, match="not finite"):
        thinned(Curve(label="x", steps=[1], values=[float("inf")]))
    assert report.expert_maps is not None
    one = replace(report.expert_maps.maps[0], grid=9)
    with pytest.raises(ValueError, match="81 patches"):
        render(replace(report, expert_maps=replace(report.expert_maps, maps=[one])))


def test_thinning_keeps_the_mean() -> None:
    curve = Curve(label="x", steps=list(range(1600)), values=[float(i % 7) for i in range(1600)])
    steps, values = thinned(curve)
    assert len(steps) == len(values) == 160
    assert sum(values) / 160 == pytest.approx(sum(curve.values) / 1600)


@pytest.mark.parametrize("span", [(0.0, 1.0), (3.2, 7.9), (-5.0, 1e6), (0.011, 0.012), (2.0, 2.0)])
def test_ticks_cover_the_span(span: tuple[float, float]) -> None:
    ticks = nice_ticks(*span, 5)
    assert ticks[0] <= span[0]
    assert ticks[-1] >= span[1]
    assert 2 <= len(ticks) <= 8


def test_numbers_read_well() -> None:
    assert [compact(n) for n in (7, 1234, 12_345, 6_312_448, 7.96e9)] == [
        "7",
        "1,234",
        "12.3 k",
        "6.31 M",
        "7.96 G",
    ]
    assert [points(x) for x in (0.1234, -0.031, 0.0001, -0.0001)] == ["+12.3", "\u22123.1", "0.0", "0.0"]
    assert [duration(s) for s in (5, 59.4, 61, 3725)] == ["5 s", "59 s", "1 min", "1 h 2 min"]
    assert [times(x) for x in (26.71, 3.14)] == ["27\u00a0\u00d7", "3.1\u00a0\u00d7"]


def test_picture_uri_of_pixels() -> None:
    import base64
    import io

    pixels = torch.tensor([[[255, 0]], [[0, 0]], [[0, 255]]], dtype=torch.uint8)
    for form in (pixels, pixels.float() / 127.5 - 1):
        uri = picture_uri(form)
        picture = Image.open(io.BytesIO(base64.b64decode(uri.split(",")[1])))
        assert [picture.getpixel((0, 0)), picture.getpixel((1, 0))] == [(255, 0, 0), (0, 0, 255)]
    wide = picture_uri(Image.new("RGB", (400, 100)), max_side=40)
    assert Image.open(io.BytesIO(base64.b64decode(wide.split(",")[1]))).size == (40, 10)


def test_terminal_shows_the_same_numbers(report: ReportData) -> None:
    console = Console(record=True, width=120, file=open("/dev/null", "w"))  # noqa: SIM115
    print_scores(report, console)
    text = console.export_text()
    main = report.row("main")
    assert main is not None
    mean = 100 * sum(main.scores[RECALL]) / len(main.scores[RECALL])
    assert f"{mean:.1f}" in text
    assert "Masked pretraining helps on recall@10" in text
    print_scores(bare(report), console)
