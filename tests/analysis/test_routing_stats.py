"""Truth: loops over tokens, sub-tokens and choices."""

import pytest
import torch

from mm_mhmoe.analysis.routing_stats import LayerLoad, activated_share, first_choices, layer_loads
from mm_mhmoe.config import MoEConfig
from mm_mhmoe.models.builder import build_encoder
from mm_mhmoe.models.encoder import EncoderOutput, LayerRouting
from mm_mhmoe.nn import Routing


@pytest.mark.parametrize(("ffn", "heads"), [("moe", 1), ("mh_moe", 4)])
def test_loads_against_a_loop(config, stream, ffn: str, heads: int) -> None:
    torch.manual_seed(0)
    moe = MoEConfig(num_experts=4, top_k=2, heads=4, every=2)
    encoder = build_encoder(config(ffn=ffn, depth=4, moe=moe)).eval()
    outputs = [encoder(stream("pairs", seed=n), stream("texts", seed=n)) for n in range(2)]
    image, text = ({layer: [0] * 4 for layer in (1, 3)} for _ in range(2))
    for output in outputs:
        for layer, routing in output.routing:
            for token in range(len(output.valid_T)):
                if not output.valid_T[token]:
                    continue
                for part in range(heads):
                    for expert in routing.experts_SK[token * heads + part].tolist():
                        (text if output.is_text_T[token] else image)[layer][expert] += 1
    found = layer_loads(iter(outputs))
    assert [load.layer for load in found] == [1, 3]
    for load in found:
        assert load.image_E.tolist() == image[load.layer] and load.text_E.tolist() == text[load.layer]
        assert load.all_E.sum() == 2 * heads * sum(int(output.valid_T.sum()) for output in outputs)


def test_a_dense_encoder_has_no_loads(config, stream) -> None:
    assert layer_loads([build_encoder(config(ffn="dense"))(stream())]) == []


def test_activated_share_by_hand() -> None:
    """Shares over the uniform one: layer 0 has 2.0, 1.6, 0.4, 0; layer 1 has 1, 1, 1, 1."""
    loads = [
        LayerLoad(layer=0, image_E=torch.tensor([10, 4, 0, 0]), text_E=torch.tensor([0, 4, 2, 0])),
        LayerLoad(layer=1, image_E=torch.tensor([3, 3, 3, 3]), text_E=torch.zeros(4, dtype=torch.int64)),
    ]
    assert activated_share(loads, 0.0) == 7 / 8
    assert activated_share(loads, 0.5) == 6 / 8
    assert activated_share(loads, 1.0) == 2 / 8  # exactly uniform does not exceed
    assert activated_share(loads, 1.8) == 1 / 8


def test_first_choice_is_the_heaviest_one() -> None:
    experts = torch.tensor([[0, 1], [2, 3], [1, 0], [3, 2]])
    weights = torch.tensor([[0.9, 0.1], [0.2, 0.8], [0.5, 0.4], [0.3, 0.7]])
    prob = torch.full((4, 4), 0.25)
    layer = LayerRouting(0, Routing(prob.log(), prob, experts, weights))
    output = EncoderOutput((), (layer,), torch.zeros(2, dtype=torch.bool), torch.ones(2, dtype=torch.bool))
    assert first_choices(output, layer).tolist() == [[0, 3], [1, 2]]
