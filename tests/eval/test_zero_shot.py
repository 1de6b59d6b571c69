"""Truth: open_clip's zero-shot classifier, with a small CLIP of random weights."""

from __future__ import annotations

from types import SimpleNamespace

import open_clip
import pytest
import torch
from mm_mhmoe_eval.zero_shot import class_embeddings
from open_clip.zero_shot_classifier import build_zero_shot_classifier

from mm_mhmoe.config import TextConfig

CLASSES = ["dog", "hot air balloon", "flag of France"]
TEMPLATES = ["a photo of a {c}.", "the {c}", "{c}, {c}!"]
LENGTH = 16


@pytest.fixture(scope="module")
def clip() -> open_clip.CLIP:
    torch.manual_seed(0)
    return open_clip.CLIP(
        embed_dim=12,
        vision_cfg={"image_size": 32, "layers": 1, "width": 32, "patch_size": 16, "head_width": 16},
        text_cfg={"context_length": LENGTH, "width": 32, "heads": 2, "layers": 1},
    ).eval()


class OpenClip:
    """What class_embeddings needs of a model."""

    text = TextConfig(vocab_size=49408, max_length=LENGTH)

    def __init__(self, clip: open_clip.CLIP) -> None:
        self.clip = clip

    @torch.no_grad()
    def embed_texts(self, texts) -> torch.Tensor:
        return self.clip.encode_text(texts.ids_BL, normalize=True)


def test_class_embeddings_are_open_clips(clip) -> None:
    words = open_clip.SimpleTokenizer(context_length=LENGTH)
    padded = SimpleNamespace(encode=lambda text, length: words([text])[0].tolist())
    ours_CE = class_embeddings(OpenClip(clip), padded, CLASSES, TEMPLATES, batch_size=4)
    fill = [lambda name, template=template: template.replace("{c}", name) for template in TEMPLATES]
    theirs_EC = build_zero_shot_classifier(clip, words, CLASSES, fill, num_classes_per_batch=2)
    torch.testing.assert_close(ours_CE, theirs_EC.T, rtol=1e-4, atol=1e-5)


def test_a_template_needs_a_place(clip) -> None:
    with pytest.raises(ValueError, match=r"'a photo' has no \{c\}"):
        class_embeddings(OpenClip(clip), None, CLASSES, ["a photo"])
