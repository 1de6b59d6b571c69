"""Truth: the objective's own functions with the same random numbers; which share is left out at which step."""

import pytest
import torch

from mm_mhmoe.models.tasks import CaptionModel
from mm_mhmoe.objectives.masked_captioning import hidden_caption_loss, hidden_captions
from mm_mhmoe.training.modules import CaptionModule
from mm_mhmoe.training.optim import OptimConfig


@pytest.mark.parametrize(("step", "dropped"), [(0, 0.0), (4, 0.0), (5, 0.5)])
def test_the_worst_words_are_left_out_from_that_step_on(config, stream, monkeypatch, step, dropped):
    torch.manual_seed(0)
    module = CaptionModule(CaptionModel(config()), OptimConfig(), steps=9, drop_worst=0.5, drop_worst_after=5)
    monkeypatch.setattr(CaptionModule, "global_step", step)
    monkeypatch.setattr(module, "log", lambda *_, **__: None)
    pairs = stream("pairs", masked=True)
    torch.manual_seed(1)
    found = module.training_step(pairs, 0)
    torch.manual_seed(1)
    text_BLD, output = module.model(hidden_captions(pairs, module.model.text))
    wanted = hidden_caption_loss(module.model, text_BLD, pairs.texts, smoothing=0.1, drop_worst=dropped)
    assert wanted.loss < found["loss"] < wanted.loss + 0.1  # with the balance loss
    assert len(found["output"].routing) == len(output.routing) and found["output"].streams == ()
