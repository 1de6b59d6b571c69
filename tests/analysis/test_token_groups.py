"""Truth: a loop over streams, rows and positions."""

from dataclasses import replace

import torch

from mm_mhmoe.analysis.token_groups import KINDS, kind_groups, modality_groups, token_kinds
from mm_mhmoe.models.builder import build_encoder


def with_end(stream_):
    """The last real token of every text is the end token, as the tokenizer makes it."""
    ids = stream_.texts.ids_BL.clone()
    ids[torch.arange(len(ids)), stream_.texts.valid_BL.sum(1) - 1] = 2
    return replace(stream_, texts=replace(stream_.texts, ids_BL=ids))


def test_kinds_against_a_loop(config, stream) -> None:
    streams = [stream("images", rows=2), with_end(stream("texts", rows=4)), with_end(stream("pairs", rows=3))]
    expected = []
    for part in streams:
        for row in range(len(part)):
            if part.images is not None:
                expected += ["cls"] + ["patch"] * 16
            if part.texts is not None:
                for token, real in zip(part.texts.ids_BL[row].tolist(), part.texts.valid_BL[row].tolist(), strict=True):
                    expected.append({0: "begin", 2: "end"}.get(token, "word") if real else "padding")
    found = token_kinds(streams, 16, config().text)
    assert [KINDS[kind] if kind >= 0 else "padding" for kind in found.tolist()] == expected
    assert {"begin", "end", "padding"} <= set(expected)
    member_TG = kind_groups(found)
    assert [[KINDS[g] for g in row.nonzero().flatten()] for row in member_TG] == [
        [] if kind == "padding" else [kind] for kind in expected
    ]


def test_kinds_follow_the_encoders_tokens(config, stream) -> None:
    streams = [stream("images", rows=2), with_end(stream("texts", rows=4)), with_end(stream("pairs", rows=3))]
    output = build_encoder(config())(*streams)
    kind_T = token_kinds(streams, config().vision.num_patches, config().text)
    assert torch.equal(kind_T >= 0, output.valid_T)
    group_TG = modality_groups(output)
    assert torch.equal(group_TG[:, 0], (kind_T == KINDS.index("cls")) | (kind_T == KINDS.index("patch")))
    assert torch.equal(group_TG[:, 1], kind_T >= KINDS.index("begin"))
