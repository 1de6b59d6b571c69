"""The page in a real browser."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("starlette", reason="the extra serve is not installed")
pytest.importorskip("uvicorn", reason="the extra serve is not installed")


def test_one_finds_pictures_and_shows_one(ask: Any, browser: Any, tmp_path: Path) -> None:
    (tmp_path / "up.png").write_bytes(ask.engine.dataset.image_bytes(3))
    (tmp_path / "up.txt").write_text("no picture")
    for width, dark in ((1280, False), (390, True)):
        browser.open(f"http://127.0.0.1:{ask.port}/", width, dark=dark)
        browser.wait("!document.getElementById('find').hidden")
        assert "24 pictures" in browser.js("document.getElementById('about').textContent")

        browser.js("document.getElementById('query').value = '<b>red</b> cat'")
        browser.js("document.querySelector('#query-form button').click()")
        shown = "[...document.querySelectorAll('#hits img')]"
        browser.wait(f"{shown}.length == 15 && {shown}.every((image) => image.naturalWidth == 20)")
        assert "<b>red</b>" in browser.js("document.getElementById('find-told').textContent")

        upload(browser, tmp_path / "up.png")
        browser.js("document.getElementById('question').value = 'what is it?'")
        browser.js("document.querySelector('#picture-form button').click()")
        browser.wait("document.querySelectorAll('.maps canvas').length == 4")
        listed = "[...document.querySelectorAll('#seen h3')].map((title) => title.textContent)"
        titles = browser.js(listed)
        assert titles[:3] == [
            "what is it?",
            "Its caption, as a model writes it",
            "Captions of the shards that fit best",
        ]
        assert len(browser.js("[...document.querySelectorAll('#seen li')].map((item) => item.textContent)")) == 7
        browser.js(
            "const s = document.querySelector('select'); s.value = 'layer 1'; s.dispatchEvent(new Event('change'))"
        )
        drawn = "document.querySelector('.maps canvas').getContext('2d').getImageData(0, 0, 384, 384).data"
        assert browser.js(f"new Set({drawn}).size") > 10
        assert browser.errors == [] and browser.overflow <= 0
        ours = f"http://127.0.0.1:{ask.port}/"
        assert browser.requests and all(address.startswith(ours) for address in browser.requests)

        upload(browser, tmp_path / "up.txt")
        browser.js("document.querySelector('#picture-form button').click()")
        browser.wait("document.getElementById('look-told').classList.contains('bad')")
        assert "cannot be decoded" in browser.js("document.getElementById('look-told').textContent")


def upload(browser: Any, path: Path) -> None:
    root = browser("DOM.getDocument")["root"]["nodeId"]
    node = browser("DOM.querySelector", nodeId=root, selector="#picture")["nodeId"]
    browser("DOM.setFileInputFiles", files=[str(path)], nodeId=node)
