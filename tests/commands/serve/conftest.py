"""Minuscule models behind a real server."""

from __future__ import annotations

import http.client
import json
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from mm_mhmoe_data.pipeline import ShardDataset
from mm_mhmoe_data.tokenizer import Tokenizer
from mm_mhmoe_eval.runner import ModelFacts

from mm_mhmoe.commands.evaluate import Judged
from mm_mhmoe.commands.serve.engine import Engine
from mm_mhmoe.models.tasks import CaptionModel


class Server:
    def __init__(self, engine: Engine) -> None:
        import uvicorn

        from mm_mhmoe.commands.serve.app import make_app

        self.engine = engine
        config = uvicorn.Config(make_app(engine), host="127.0.0.1", port=0, log_level="error")
        self.server = uvicorn.Server(config)
        self.socket = config.bind_socket()
        self.port = self.socket.getsockname()[1]
        self.thread = threading.Thread(target=self.server.run, kwargs={"sockets": [self.socket]})
        self.thread.start()
        while not self.server.started:
            assert self.thread.is_alive()
            time.sleep(0.01)

    def close(self) -> None:
        self.server.should_exit = True
        self.thread.join(timeout=30)
        self.socket.close()

    def __call__(self, method: str, path: str, body: Any = None, **headers: str) -> tuple[int, Any, dict[str, str]]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        connection.request(method, path, body, {name.replace("_", "-"): value for name, value in headers.items()})
        answer = connection.getresponse()
        content = answer.read()
        told = dict(answer.getheaders())
        connection.close()
        return answer.status, json.loads(content) if "json" in told.get("content-type", "") else content, told


@pytest.fixture(scope="module")
def engine(model: Any, dataset: ShardDataset, tokenizer: Tokenizer) -> Engine:
    torch.manual_seed(0)
    found = {"retrieval": model("retrieval"), "vqa": model("vqa"), "writer": CaptionModel(model("vqa").config)}
    return Engine([Judged(made.eval(), ModelFacts(name=name), tokenizer, 0) for name, made in found.items()], dataset)


@pytest.fixture(scope="module")
def ask(engine: Engine) -> Iterator[Server]:
    """ask(method, path, body, **headers) -> (status, content, headers)."""
    server = Server(engine)
    yield server
    server.close()
