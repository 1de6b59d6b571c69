"""The page over real HTTP, with minuscule models of random weights."""

from __future__ import annotations

import io
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from mm_mhmoe_data.pipeline import ShardDataset
from mm_mhmoe_data.tokenizer import Tokenizer
from mm_mhmoe_data.transforms import EvalTransform
from mm_mhmoe_eval.runner import ModelFacts
from PIL import Image

from mm_mhmoe.analysis.routing_sums import first_choices
from mm_mhmoe.batch import Images, ImageTextBatch, Texts
from mm_mhmoe.commands.evaluate import Judged
from mm_mhmoe.commands.serve.engine import Engine

pytest.importorskip("starlette", reason="the extra serve is not installed")
uvicorn = pytest.importorskip("uvicorn", reason="the extra serve is not installed")

from mm_mhmoe.commands.serve import app as serving  # noqa: E402


def png(width: int = 30, height: int = 20, seed: int = 0) -> bytes:
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, format="PNG")
    return out.getvalue()


def png_that_says(width: int, height: int) -> bytes:
    """A PNG whose header names a size that its data do not have."""
    content = bytearray(png(4, 4))
    content[16:24] = width.to_bytes(4, "big") + height.to_bytes(4, "big")
    content[29:33] = zlib.crc32(bytes(content[12:29])).to_bytes(4, "big")
    return bytes(content)


def test_the_page_loads_nothing_from_elsewhere(ask: Any) -> None:
    for path, kind in (("/", "html"), ("/static/page.css", "css"), ("/static/page.js", "javascript")):
        status, content, headers = ask("GET", path)
        assert status == 200 and kind in headers["content-type"]
        assert b"http://" not in content and b"https://" not in content
        assert headers["content-security-policy"].startswith("default-src 'none'; script-src 'self';")
    assert b"<script>" not in ask("GET", "/")[1]


def test_about(ask: Any) -> None:
    assert ask("GET", "/api/about")[1] == {
        "pictures": 24,
        "models": {"find": "retrieval", "answer": "vqa", "write": "writer", "experts": "retrieval"},
    }


def test_a_query_finds_the_nearest_pictures(ask: Any) -> None:
    """Truth: all cosines by hand."""
    status, content, _ = ask("POST", "/api/find?query=red%20cat")
    assert status == 200
    engine = ask.engine
    assert engine.index is not None and engine.finder is not None
    model: Any = engine.finder.model
    ids = torch.tensor([engine.finder.tokenizer.encode("red cat", 16)])
    texts = Texts(ids_BL=ids, valid_BL=torch.ones_like(ids, dtype=torch.bool))
    score_M = engine.index.image_ME @ model.embed_texts(texts)[0]
    assert [hit["place"] for hit in content["hits"]] == score_M.argsort(descending=True)[:15].tolist()
    assert content["hits"][0]["score"] == pytest.approx(score_M.max().item(), abs=1e-3)
    place = content["hits"][0]["place"]
    assert content["hits"][0]["caption"] == engine.dataset.caption(place)
    status, picture, headers = ask("GET", f"/api/picture/{place}")
    assert status == 200 and headers["content-type"] == "image/png"
    shown = np.array(Image.open(io.BytesIO(picture)))
    assert (shown == engine.dataset.picture(place).permute(1, 2, 0).numpy()).all()


def test_an_upload_is_seen_as_the_model_sees_it(ask: Any) -> None:
    """Truth: the picture of the shards, read and encoded the usual way."""
    engine = ask.engine
    status, seen, _ = ask("POST", "/api/look?question=what%20is%20it", engine.dataset.image_bytes(5))
    assert status == 200 and seen["picture"].startswith("data:image/png;base64,")
    assert engine.index is not None and engine.sparse is not None
    score_M = engine.index.text_ME @ engine.index.image_ME[5]
    best = score_M.sort(descending=True).values[:5].tolist()
    assert [caption["score"] for caption in seen["captions"]] == pytest.approx(best, abs=1e-3)
    of_caption = {engine.dataset.caption(place): score for place, score in enumerate(score_M.tolist())}
    for caption in seen["captions"]:
        assert of_caption[caption["text"]] == pytest.approx(caption["score"], abs=1e-3)
    assert {answer["text"] for answer in seen["answers"]} == {"yes", "no"}
    assert engine.writer is not None
    writer: Any = engine.writer.model
    images = Images(pixels_BCHW=EvalTransform(16)(engine.dataset.picture(5))[None])
    assert seen["written"] == engine.writer.tokenizer.decode(writer.write_captions(images)[0])
    experts = seen["experts"]
    assert experts["grid"] == 4 and experts["num_experts"] == 5 and [x["layer"] for x in experts["layers"]] == [1, 2]
    model: Any = engine.sparse.model
    output = model.encoder(ImageTextBatch(images=images))
    for layer, routing in zip(experts["layers"], output.routing, strict=True):
        assert layer["heads"] == first_choices(output, routing)[1:].t().tolist()
    assert "answers" not in ask("POST", "/api/look", png())[1]


@pytest.mark.parametrize(
    ("path", "status", "told"),
    [
        ("/api/find?query=", 400, "1 to 500 characters"),
        (f"/api/find?query={'a' * 501}", 400, "this one 501"),
        (f"/api/look?question={'a' * 501}", 400, "at most 500"),
    ],
)
def test_texts_have_limits(ask: Any, path: str, status: int, told: str) -> None:
    found, content, _ = ask("POST", path, png())
    assert found == status and told in content["error"]


def test_what_is_no_picture_is_told(ask: Any) -> None:
    for content in (b"", b"hello", png()[:60], b"%!PS-Adobe-3.0 EPSF-3.0\n"):
        status, answer, _ = ask("POST", "/api/look", content)
        assert status == 400 and "cannot be decoded" in answer["error"]


def test_a_picture_that_says_it_is_large_is_not_decoded(ask: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def decode(_: bytes) -> None:
        raise AssertionError("decoded")

    monkeypatch.setattr(serving, "decode_picture", decode)
    status, answer, _ = ask("POST", "/api/look", png_that_says(5000, 4001))
    assert status == 400 and "5000x4001 pixels; at most 20,000,000" in answer["error"]


def test_an_upload_that_is_too_large_is_refused(ask: Any) -> None:
    status, answer, _ = ask("POST", "/api/look", None, content_length=str(serving.MAX_UPLOAD + 1))
    assert status == 413 and "10 MB" in answer["error"]


def test_an_upload_of_unsaid_length_is_counted(ask: Any) -> None:
    def pieces() -> Iterator[bytes]:
        for _ in range(11):
            yield bytes(1 << 20)

    try:
        status, _, _ = ask("POST", "/api/look", pieces())
    except (BrokenPipeError, ConnectionResetError):  # it was closed before all of it was sent
        return
    assert status == 413


@pytest.mark.parametrize("host", ["evil.example", "evil.example:80", "127.0.0.1.evil.example"])
def test_names_of_other_hosts_are_refused(ask: Any, host: str) -> None:
    assert ask("GET", "/api/about", host=host)[0] == 400


def test_other_pages_may_not_ask(ask: Any) -> None:
    status, answer, _ = ask("POST", "/api/find?query=cat", origin="http://evil.example")
    assert status == 403 and "evil.example" in answer["error"]
    assert ask("POST", "/api/find?query=cat", origin=f"http://127.0.0.1:{ask.port}")[0] == 200


def test_unknown_addresses(ask: Any) -> None:
    for path in ("/static/app.py", "/static/..%2Fapp.py", "/api/picture/24", "/api/picture/-1", "/etc/passwd"):
        assert ask("GET", path)[0] == 404
    assert ask("GET", "/api/find?query=cat")[0] == 405


def test_models_that_can_do_nothing_here_are_refused(model: Any, dataset: ShardDataset, tokenizer: Tokenizer) -> None:
    dense = Judged(model("pretrain", ffn="dense").eval(), ModelFacts(name="m"), tokenizer, 0)
    with pytest.raises(ValueError, match="none of the models finds pictures"):
        Engine([dense], dataset)


def test_a_missing_library_is_named(call: Any, monkeypatch: pytest.MonkeyPatch, saved: Any, shards: Path) -> None:
    monkeypatch.setitem(__import__("sys").modules, "uvicorn", None)
    code, _, err = call("serve", "--model", saved("m", "retrieval"), "--shards", shards)
    assert code == 1 and "pip install 'mm-mhmoe[serve]'" in err
