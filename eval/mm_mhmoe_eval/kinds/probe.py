"""What a frozen encoder's features know of classes. Legend: N training pictures, M test pictures, F features."""

from __future__ import annotations

from typing import Any

from mm_mhmoe_eval.classification import baselines, class_scores, confusion_csv
from mm_mhmoe_eval.kinds.classification import each_picture, labelled_of, samples_of
from mm_mhmoe_eval.kinds.scored import Scored, ScoredData
from mm_mhmoe_eval.probes import linear_probe, nearest_neighbours
from mm_mhmoe_eval.protocol import EmbedsPairs, GivesFeatures
from mm_mhmoe_eval.results import bootstrap_interval


def score(model: Any, data: ScoredData) -> Scored:
    if isinstance(model, GivesFeatures):
        features = model.image_features
    elif isinstance(model, EmbedsPairs):
        features = model.embed_images
    else:
        raise ValueError(f"{type(model).__name__} gives no features of pictures; a probe task needs an encoder")
    train = labelled_of(data, "train")
    test = labelled_of(data, "test", train.classes)
    train_NF = each_picture(features, model, train, data)
    test_MF = each_picture(features, model, test, data)
    labels_N, labels_M = train.labels(len(train_NF)), test.labels(len(test_MF))
    classes = len(train.classes)
    near = class_scores(nearest_neighbours(train_NF, labels_N, test_MF, classes), labels_M)
    probe = linear_probe(train_NF, labels_N, test_MF, classes)
    linear = class_scores(probe.logits_MC, labels_M)
    per_sample = {
        "knn/accuracy@1": near.correct_N.double().tolist(),
        "linear/accuracy@1": linear.correct_N.double().tolist(),
    }
    return Scored(
        metrics=near.metrics("knn/")
        | linear.metrics("linear/")
        | {"linear/l2": probe.l2, "classes": float(classes), "train_pictures": float(len(labels_N))}
        | baselines(labels_M, classes),
        intervals={name: list(bootstrap_interval(values, seed=0)) for name, values in per_sample.items()},
        samples=samples_of(test, linear, labels_M),
        per_sample=per_sample,
        files={"confusion.csv": confusion_csv(linear.confusion_CC, test.classes)},
    )
