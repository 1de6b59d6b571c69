"""Truth: the encoder's own output, sample by sample."""

from collections import Counter

import pytest
import torch
from mm_mhmoe_data.ordered import iterate_pairs

from mm_mhmoe.batch import ImageTextBatch
from mm_mhmoe.commands.routing_record import GROUPS, record_routing

CHOSEN = [3, 0, 17, 22, 9, 10, 11]


@pytest.mark.parametrize("kind", ["pretrain", "retrieval", "vqa"])
@torch.no_grad()
def test_a_record_against_one_sample_at_a_time(model, dataset, tokenizer, kind: str) -> None:
    ours = model(kind).eval()
    found = record_routing(ours, dataset, tokenizer, CHOSEN, batch_size=3)
    first: dict[tuple[int, bool], list] = {(layer, text): [] for layer in (0, 1) for text in (False, True)}
    counts = {(layer, group): Counter() for layer in (0, 1) for group in GROUPS}
    ids = []
    for pair in iterate_pairs(dataset, tokenizer, ours.vision, ours.text, 1, chosen=CHOSEN):
        real = int(pair.texts.valid_BL.sum())
        ids += pair.texts.ids_BL[0, :real].tolist()
        apart = (ImageTextBatch(images=pair.images), ImageTextBatch(texts=pair.texts))
        output = ours.encoder(*(apart if kind == "retrieval" else (pair,)))
        for layer, routing in output.routing:
            experts = routing.experts_SK.view(-1, 4, 2)
            for token in range(17 + real):
                text = token >= 17
                first[layer, text].append(experts[token, :, 0].tolist())  # softmax: the first choice is the heaviest
                groups = ["text" if text else "image"]
                groups.append({0: "cls", 17: "begin", 17 + real - 1: "end"}.get(token, "word" if text else "patch"))
                for group in groups:
                    counts[layer, group].update(experts[token].flatten().tolist())
    assert found.ids_T.tolist() == ids
    for layer in (0, 1):
        assert found.image_TH[layer].tolist() == first[layer, False]
        assert found.text_TH[layer].tolist() == first[layer, True]
        for place, group in enumerate(GROUPS):
            expected = [counts[layer, group][expert] for expert in range(5)]
            assert found.sums[layer].computed_GE[place].tolist() == expected


def test_a_dense_model_routes_nothing(model, dataset, tokenizer) -> None:
    found = record_routing(model("pretrain", ffn="dense"), dataset, tokenizer, CHOSEN, batch_size=4)
    assert found.sums == {} and found.text_TH == {} and len(found.ids_T) > 30
