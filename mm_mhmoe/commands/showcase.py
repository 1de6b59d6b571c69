"""Examples for the report: what a model finds, answers and fills in on held-out pictures.

Examples are the first of a seeded draw, never chosen by how good they look.
Shapes: B batch, N patches, P embedding dim.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from mm_mhmoe_data.ordered import iterate_pairs, iterate_vqa
from mm_mhmoe_data.pipeline import ShardDataset
from mm_mhmoe_data.tokenizer import Tokenizer
from mm_mhmoe_data.vqa_data import VQAExample
from mm_mhmoe_eval.report_data import (
    AnswerBar,
    CaptionHit,
    Gallery,
    MaskedSection,
    MaskedView,
    PictureHit,
    PictureQuery,
    QuestionSection,
    QuestionView,
    TextQuery,
    picture_uri,
)
from mm_mhmoe_eval.retrieval import retrieval_ranks, top_k
from mm_mhmoe_eval.vqa import vqa_accuracy
from torch import Tensor

from mm_mhmoe.batch import ImageTextBatch
from mm_mhmoe.models.tasks import PretrainModel, RetrievalModel, VQAModel
from mm_mhmoe.models.visual_tokenizer import VisualTokenizer
from mm_mhmoe.nn import patchify, unpatchify


def draw(count: int, of: int, seed: int) -> list[int]:
    """The first `count` of a seeded draw without replacement."""
    return torch.randperm(of, generator=torch.Generator().manual_seed(seed))[:count].tolist()


def rule(count: int, what: str, seed: int) -> str:
    return f"The first {count} {what} of a random draw with seed {seed}; nobody picked them."


@torch.no_grad()
def gallery(
    model: RetrievalModel, dataset: ShardDataset, tokenizer: Tokenizer, *, count: int = 6, seed: int = 0
) -> Gallery:
    """Captions that look for pictures, and pictures that look for captions, among all pairs of the dataset."""
    images, texts = [], []
    for batch in iterate_pairs(dataset, tokenizer, model.vision, model.text, 128):
        assert batch.images is not None and batch.texts is not None
        images.append(model.embed_images(batch.images))
        texts.append(model.embed_texts(batch.texts))
    image_BP, text_BP = torch.cat(images), torch.cat(texts)
    ranks = retrieval_ranks(image_BP, text_BP, torch.arange(len(text_BP)))
    chosen = draw(count, len(dataset), seed)
    pictures, picture_scores = top_k(text_BP[chosen], image_BP, 5)
    captions, caption_scores = top_k(image_BP[chosen], text_BP, 5)
    return Gallery(
        rule=rule(count, "test pairs", seed),
        text_queries=[
            TextQuery(
                text=dataset.caption(query),
                rank=int(ranks.image_N[query]),
                hits=[
                    PictureHit(
                        picture=picture_uri(dataset.picture(i)),
                        caption=dataset.caption(i),
                        score=score,
                        correct=i == query,
                    )
                    for i, score in zip(pictures[row].tolist(), picture_scores[row].tolist(), strict=True)
                ],
                target=picture_uri(dataset.picture(query)) if query not in pictures[row].tolist() else None,
            )
            for row, query in enumerate(chosen)
        ],
        picture_queries=[
            PictureQuery(
                picture=picture_uri(dataset.picture(query)),
                captions=[dataset.caption(query)],
                rank=int(ranks.text_M[query]),
                hits=[
                    CaptionHit(text=dataset.caption(i), score=score, correct=i == query)
                    for i, score in zip(captions[row].tolist(), caption_scores[row].tolist(), strict=True)
                ],
            )
            for row, query in enumerate(chosen)
        ],
    )


@torch.no_grad()
def questions(
    model: VQAModel,
    dataset: ShardDataset,
    examples: Sequence[VQAExample],
    tokenizer: Tokenizer,
    *,
    count: int = 12,
    seed: int = 0,
) -> QuestionSection:
    """Questions with the model's likeliest answers."""
    chosen = [examples[i] for i in draw(count, len(examples), seed)]
    batches = iterate_vqa(dataset, chosen, model.answers, tokenizer, model.vision, model.text, count)
    probability_BA = torch.cat([model.answer_logits(batch.pairs).float().sigmoid() for batch in batches])
    index_of = {key: i for i, key in enumerate(dataset.keys)}
    views = []
    for example, row_A in zip(chosen, probability_BA, strict=True):
        best = row_A.topk(min(3, len(row_A)))
        top = [
            AnswerBar(answer=model.answers[i], probability=p) for p, i in zip(*map(Tensor.tolist, best), strict=True)
        ]
        views.append(
            QuestionView(
                picture=picture_uri(dataset.picture(index_of[example.image_key])),
                question=example.question,
                truth=max(set(example.answers), key=lambda answer: (example.answers.count(answer), answer)),
                answer=top[0].answer,
                score=vqa_accuracy(top[0].answer, example.answers),
                top=top,
                question_type=example.question_type,
            )
        )
    counts: dict[str, int] = {}
    for example in examples:
        counts[example.question_type] = counts.get(example.question_type, 0) + 1
    return QuestionSection(rule=rule(count, "test questions", seed), examples=views, question_type_counts=counts)


@torch.no_grad()
def masked(
    model: PretrainModel,
    visual_tokenizer: VisualTokenizer,
    dataset: ShardDataset,
    tokenizer: Tokenizer,
    *,
    count: int = 6,
    seed: int = 0,
) -> MaskedSection:
    """Pairs with hidden patches: the codes that the encoder predicts there, as the visual tokenizer draws them."""
    right = total = 0
    tally = torch.zeros(model.num_codes)
    views: dict[int, MaskedView] = {}
    chosen = draw(count, len(dataset), seed)
    first = 0
    for batch in iterate_pairs(
        dataset, tokenizer, model.vision, model.text, 64, image_mask=0.4, text_mask=0.5, seed=seed
    ):
        predicted_BN, true_BN, masked_BN = _predict(model, visual_tokenizer, batch)
        hit_BN = (predicted_BN == true_BN) & masked_BN
        right += int(hit_BN.sum())
        total += int(masked_BN.sum())
        tally += true_BN[masked_BN].bincount(minlength=model.num_codes)
        for index in chosen:
            row = index - first
            if 0 <= row < len(batch):
                views[index] = _view(
                    visual_tokenizer, batch, row, predicted_BN, true_BN, hit_BN, dataset.caption(index)
                )
        first += len(batch)
    return MaskedSection(
        rule=rule(count, "test pairs", seed),
        examples=[views[index] for index in chosen],
        accuracy=right / total,
        chance_accuracy=(tally.max() / tally.sum()).item(),
        note=(
            "The encoder sees the picture without the hidden patches, and the caption with half of its words hidden. "
            "It predicts a code for each hidden patch; the visual tokenizer's decoder draws the codes."
        ),
    )


def _predict(
    model: PretrainModel, visual_tokenizer: VisualTokenizer, batch: ImageTextBatch
) -> tuple[Tensor, Tensor, Tensor]:
    assert batch.images is not None and batch.images.masked_BN is not None
    image_BND = model.encoder(batch).streams[0].image_BND
    assert image_BND is not None
    predicted_BN = model.image_head(image_BND[:, 1:]).argmax(dim=-1)
    return predicted_BN, visual_tokenizer.codes(batch.images.pixels_BCHW), batch.images.masked_BN


def _view(
    visual_tokenizer: VisualTokenizer,
    batch: ImageTextBatch,
    row: int,
    predicted_BN: Tensor,
    true_BN: Tensor,
    hit_BN: Tensor,
    caption: str,
) -> MaskedView:
    assert batch.images is not None and batch.images.masked_BN is not None
    pixels = batch.images.pixels_BCHW[row : row + 1].float() / 127.5 - 1.0
    hidden_N = batch.images.masked_BN[row]
    size = visual_tokenizer.config.vision.patch_size

    def with_hidden(patches_NP: Tensor) -> Tensor:
        shown_NP = patchify(pixels, size)[0].clone()
        shown_NP[hidden_N] = patches_NP[hidden_N]
        return unpatchify(shown_NP.unsqueeze(0), size)[0]

    guess_N = torch.where(hidden_N, predicted_BN[row], true_BN[row])
    drawn_NP = patchify(visual_tokenizer.reconstruct(guess_N.unsqueeze(0)), size)[0]
    return MaskedView(
        original=picture_uri(pixels[0]),
        masked=picture_uri(with_hidden(torch.zeros_like(drawn_NP))),
        reconstruction=picture_uri(with_hidden(drawn_NP)),
        tokenized=picture_uri(visual_tokenizer.reconstruct(true_BN[row : row + 1])[0]),
        caption=caption,
        accuracy=(hit_BN[row].sum() / hidden_N.sum()).item(),
    )
