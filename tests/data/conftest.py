"""Small shards with made-up pictures, a tokenizer trained on their captions, and a server of files."""

from __future__ import annotations

import io
import json
import threading
from collections.abc import Callable, Iterator
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
from mm_mhmoe_data.shards import Sample, write_shards
from mm_mhmoe_data.tokenizer import Tokenizer, train_tokenizer
from PIL import Image

from mm_mhmoe.config import TextConfig, VisionConfig

NUM_SAMPLES = 23  # prime, so that no batch size divides it
_WORDS = "red green blue star house tree small large bird with a on the left".split()  # noqa: SIM905  (readable)


def picture_bytes(seed: int, *, size: tuple[int, int] = (40, 48), format: str = "PNG") -> bytes:
    """A random picture of (height, width)."""
    pixels = np.random.default_rng(seed).integers(0, 256, (*size, 3), dtype=np.uint8)
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, format=format)
    return out.getvalue()


def make_samples(count: int = NUM_SAMPLES) -> list[Sample]:
    rng = np.random.default_rng(0)
    return [
        Sample(
            key=f"{i:09d}",
            parts={
                "png" if i % 2 else "jpg": picture_bytes(i, format="PNG" if i % 2 else "JPEG"),
                "txt": " ".join(rng.choice(_WORDS, size=int(rng.integers(2, 9)))).encode(),
                "json": json.dumps({"number": i}).encode(),
            },
        )
        for i in range(count)
    ]


@pytest.fixture(scope="session")
def samples() -> list[Sample]:
    return make_samples()


@pytest.fixture
def write_shard(tmp_path: Path) -> Callable[..., Path]:
    """Writes one shard of one sample, from its parts by extension."""

    def write(**parts: bytes) -> Path:
        write_shards([Sample(key="000000007", parts=parts)], tmp_path, 0, 10)
        return tmp_path / "00000.tar"

    return write


@pytest.fixture(scope="session")
def make_picture() -> Callable[..., bytes]:
    return picture_bytes


@pytest.fixture(scope="session")
def shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("shards")
    write_shards(make_samples(), directory, 0, 10)
    return directory


@pytest.fixture(scope="session")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Tokenizer:
    texts = [sample.parts["txt"].decode() for sample in make_samples(200)]
    return Tokenizer.load(train_tokenizer(texts, tmp_path_factory.mktemp("tokenizer"), vocab_size=64))


@pytest.fixture(scope="session")
def vision() -> VisionConfig:
    return VisionConfig(image_size=32, patch_size=4)


@pytest.fixture(scope="session")
def text() -> TextConfig:
    return TextConfig(vocab_size=64, max_length=8)


class Server:
    """Serves a folder over HTTP on this machine, without ranges; `asked` logs what was asked of it.

    broken: answers 503, or closes in the middle of a body, that many times.
    head: whether it answers HEAD.
    """

    def __init__(self, folder: Path) -> None:
        self.asked: list[str] = []
        self.broken: list[Literal["503", "short"]] = []
        self.head = True
        outer = self

        class Handler(SimpleHTTPRequestHandler):
            def __init__(self, *args: Any) -> None:
                super().__init__(*args, directory=str(folder))

            def do_HEAD(self) -> None:
                super().do_HEAD() if outer.head else self.send_error(501)

            def do_GET(self) -> None:
                outer.asked.append(f"GET {self.path}")
                fault = outer.broken.pop(0) if outer.broken else None
                if fault == "503":
                    self.send_error(503)
                elif fault == "short":
                    content = (folder / self.path[1:]).read_bytes()
                    self.send_response(200)
                    self.send_header("Content-Length", str(len(content)))
                    self.end_headers()
                    self.wfile.write(content[: len(content) // 2])
                else:
                    super().do_GET()

            def log_message(self, *args: Any) -> None:
                pass

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.address = f"http://127.0.0.1:{self.http.server_port}"
        threading.Thread(target=self.http.serve_forever, args=(0.02,), daemon=True).start()

    def close(self) -> None:
        self.http.shutdown()
        self.http.server_close()


@pytest.fixture
def serve() -> Iterator[Callable[[Path], Server]]:
    """serve(folder): a `Server` of that folder until the test ends."""
    servers: list[Server] = []

    def start(folder: Path) -> Server:
        servers.append(Server(folder))
        return servers[-1]

    yield start
    for server in servers:
        server.close()


@pytest.fixture
def own_shard_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder for what is fetched, and no pauses between tries."""
    monkeypatch.setenv("MM_MHMOE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("mm_mhmoe_data.shards.remote.PATIENCE", (0.0, 0.0))
    return tmp_path / "cache" / "shards"
