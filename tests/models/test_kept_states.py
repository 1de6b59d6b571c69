"""Truth: the storages that autograd saves. Models that read only [CLS] keep none of the encoder's last states."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from mm_mhmoe.batch import ImageTextBatch
from mm_mhmoe.models.encoder import Encoder, EncoderOutput
from mm_mhmoe.models.tasks import ClassificationModel, NLVR2Model, RetrievalModel, VQAModel

MODELS: dict[str, Callable] = {
    "retrieval": lambda config: RetrievalModel(config, 4),
    "match": lambda config: RetrievalModel(config, 4, match=True),
    "vqa": lambda config: VQAModel(config, ["yes", "no"]),
    "nlvr2": NLVR2Model,
    "classification": lambda config: ClassificationModel(config, ["cat", "dog"]),
}


def run(name: str, model, pairs: ImageTextBatch) -> object:
    if name == "match":
        return model.match_head(model.pair_cls(pairs))
    if name == "classification":
        return model(pairs.images)
    return model(pairs, pairs) if name == "nlvr2" else model(pairs)


@pytest.mark.parametrize("rows", [1, 3])
@pytest.mark.parametrize("name", MODELS)
def test_the_last_states_are_not_kept(config, stream, monkeypatch, name: str, rows: int) -> None:
    encoded: list[EncoderOutput] = []
    encode = Encoder.forward

    def forward(self: Encoder, *streams: ImageTextBatch) -> EncoderOutput:
        encoded.append(encode(self, *streams))
        return encoded[-1]

    saved: list[Tensor] = []

    def keep(tensor: Tensor) -> Tensor:
        saved.append(tensor.detach())
        return tensor.detach()

    monkeypatch.setattr(Encoder, "forward", forward)
    model = MODELS[name](config())
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        run(name, model, stream(rows=rows))
    (output,) = encoded
    states = {part.untyped_storage().data_ptr() for stream in output.streams for part in stream if part is not None}
    assert states and saved
    assert not states & {tensor.untyped_storage().data_ptr() for tensor in saved}
