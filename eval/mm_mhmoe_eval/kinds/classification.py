"""Classes of pictures: told by a classifier, or by class names that lie next to them. Legend: N pictures, C classes, E
embedding.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from mm_mhmoe_data.clip_benchmark import read_lines
from mm_mhmoe_data.labelled import Labelled, read_labelled, read_names
from mm_mhmoe_data.ordered import iterate_pairs
from mm_mhmoe_data.shards.places import join
from torch import Tensor

from mm_mhmoe.batch import Images
from mm_mhmoe_eval.classification import ClassScores, baselines, class_scores, confusion_csv
from mm_mhmoe_eval.kinds.scored import Scored, ScoredData
from mm_mhmoe_eval.protocol import Classifies, EmbedsPairs
from mm_mhmoe_eval.results import bootstrap_interval
from mm_mhmoe_eval.zero_shot import PLACE, class_embeddings

TEMPLATES = "zeroshot_classification_templates.txt"


def score(model: Any, data: ScoredData) -> Scored:
    if not isinstance(model, Classifies):
        raise ValueError(
            f"{type(model).__name__} does not tell classes of pictures; a classification task needs a classification "
            "model, or take a task of kind zero_shot or probe"
        )
    field = data.options["label_field"] or None
    test = read_labelled(data.paths["test"], field=field, classes=None if field is None else model.classes)
    if test.classes != tuple(model.classes):  # a number in .cls means the test's class
        raise ValueError(
            f"the model tells {len(model.classes)} classes ({', '.join(model.classes[:2])}, ...), the test has "
            f"{len(test.classes)} ({', '.join(test.classes[:2])}, ...); score it on the classes that it was trained for"
        )
    return _scored(test, each_picture(model.class_logits, model, test, data))


def score_zero_shot(model: Any, data: ScoredData) -> Scored:
    if not isinstance(model, EmbedsPairs):
        raise ValueError(
            f"{type(model).__name__} does not embed pictures and texts; a zero_shot task needs a retrieval model"
        )
    test = labelled_of(data, "test", labelled_of(data, "train").classes if "train" in data.paths else None)
    given = data.paths.get("templates")
    templates = read_names(given) if given else read_lines(join(test.dataset.root, TEMPLATES)) or (PLACE,)
    class_CE = class_embeddings(
        model, data.tokenizer, test.classes, templates, batch_size=data.batch_size, device=data.device
    )
    image_NE = each_picture(model.embed_images, model, test, data)
    scored = _scored(test, image_NE @ class_CE.T)
    scored.metrics["templates"] = float(len(templates))
    return scored


def labelled_of(data: ScoredData, name: str, classes: Sequence[str] | None = None) -> Labelled:
    """A part of the task's data, with classes as the task's options and files say."""
    if classes is None and "classes" in data.paths:
        classes = read_names(data.paths["classes"])
    field, least = data.options["label_field"] or None, data.options["min_class_count"]
    return read_labelled(data.paths[name], field=field, classes=classes, min_count=least)


def each_picture(of: Callable[[Images], Tensor], model: Any, labelled: Labelled, data: ScoredData) -> Tensor:
    """What `of` says of the pictures, as float32 rows."""
    places = list(labelled.places if data.limit is None else labelled.places[: data.limit])
    rows = []
    for batch in iterate_pairs(labelled.dataset, **data.inputs(model), stream="images", chosen=places):
        assert batch.images is not None
        rows.append(of(batch.images.to(data.device)).float().cpu())
    return torch.cat(rows)


def _scored(test: Labelled, logits_NC: Tensor) -> Scored:
    count = len(logits_NC)
    labels_N = test.labels(count)
    scores = class_scores(logits_NC, labels_N)
    per_sample = {"accuracy@1": scores.correct_N.double().tolist()}
    return Scored(
        metrics=scores.metrics() | baselines(labels_N, len(test.classes)) | {"classes": float(len(test.classes))},
        intervals={"accuracy@1": list(bootstrap_interval(per_sample["accuracy@1"], seed=0))},
        samples=samples_of(test, scores, labels_N),
        per_sample=per_sample,
        files={"confusion.csv": confusion_csv(scores.confusion_CC, test.classes)},
    )


def samples_of(test: Labelled, scores: ClassScores, labels_N: Tensor) -> list[dict[str, Any]]:
    """Of each picture its key, its class, the likeliest classes and whether the first of them is right."""
    return [
        {
            "key": test.key(n),
            "class": test.classes[label],
            "top": [test.classes[number] for number in scores.top_NK[n].tolist()],
            "correct": bool(scores.correct_N[n]),
        }
        for n, label in enumerate(labels_N.tolist())
    ]
