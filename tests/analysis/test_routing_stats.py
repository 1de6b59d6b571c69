"""Truth: loops over tokens, sub-tokens and choices; numbers by hand."""

import math

import pytest
import torch

from mm_mhmoe.analysis.routing_stats import LayerLoad, activated_share, group_statistics, layer_loads, mean_statistics
from mm_mhmoe.analysis.routing_sums import RoutingSums
from mm_mhmoe.config import MoEConfig
from mm_mhmoe.models.builder import build_encoder


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


def hand_sums() -> RoutingSums:
    """Group 0: two tokens of two sub-tokens, top-2 of 4 experts, of whose 8 choices 6 were computed. Group 1: empty."""
    return RoutingSums(
        tokens_G=torch.tensor([2.0, 0.0]),
        made_G=torch.tensor([8.0, 0.0]),
        computed_GE=torch.tensor([[3.0, 2.0, 1.0, 0.0], [0.0] * 4]),
        alone_G=torch.tensor([1.0, 0.0]),
        distinct_G=torch.tensor([3.0, 0.0]),
        reached_G=torch.tensor([5.0, 0.0]),
        first_GHE=torch.tensor([[[2.0, 0, 0, 0], [1.0, 1.0, 0, 0]], [[0.0] * 4] * 2]),
    )


def test_statistics_of_a_group_by_hand() -> None:
    found = group_statistics(hand_sums(), 0, (0.5, 1.0))
    entropy = -sum(p * math.log(p) for p in (3 / 6, 2 / 6, 1 / 6)) / math.log(4)
    assert found == pytest.approx(
        {
            "load_entropy": entropy,
            "max_over_mean": 2.0,
            "active_0.5": 3 / 4,  # 1 choice is more than half of 1.5
            "active_1": 2 / 4,
            "dropped": 2 / 8,
            "alone": 1 / 4,
            "diversity": 1.5,
            "reached": 2.5,
        }
    )


def test_an_empty_group_has_no_statistics() -> None:
    assert group_statistics(hand_sums(), 1, (0.5,)) == {}


def test_nobody_drops_where_experts_choose() -> None:
    assert "dropped" not in group_statistics(hand_sums(), 0, (0.5,), experts_choose=True)


def test_means_over_layers() -> None:
    assert mean_statistics([{"a": 1.0, "b": 2.0}, {"a": 2.0, "b": math.nan}]) == {"a": 1.5}
    assert mean_statistics([{"a": 1.0}, {"b": 1.0}]) == {} and mean_statistics([]) == {}
    assert mean_statistics([{}, {"a": 1.0}, {"a": 2.0}]) == {"a": 1.5}  # the first sees nothing of the group
