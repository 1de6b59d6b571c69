"""Golden values of a linear probe: tests/golden/sklearn_logistic.json.

scikit-learn 1.9.1's LogisticRegression (lbfgs, tol 1e-10) on the features of its own digits (the first 300, divided by
16, rounded to what JSON keeps). With scikit-learn installed:

    python tests/golden/make_sklearn_logistic.py

Kept are the features, the labels, and for three values of l2 (C = 1 / (l2 N)) the probabilities of the last 50 pictures
when fitted to the first 250, and the loss that was reached.
"""

import json
from pathlib import Path

import numpy as np
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss

L2 = (1e-1, 1e-2, 1e-3)


def main() -> None:
    features, labels = load_digits(return_X_y=True)
    features, labels = features[:300, ::2] / 16, labels[:300]
    cases = []
    for l2 in L2:
        model = LogisticRegression(C=1 / (l2 * 250), tol=1e-10, max_iter=20_000)
        model.fit(features[:250], labels[:250])
        loss = log_loss(labels[:250], model.predict_proba(features[:250])) + l2 / 2 * np.square(model.coef_).sum()
        probabilities = model.predict_proba(features[250:]).round(7).tolist()
        cases.append({"l2": l2, "loss": loss, "probabilities": probabilities})
    golden = {"features": features.tolist(), "labels": labels.tolist(), "cases": cases}
    Path(__file__).with_name("sklearn_logistic.json").write_text(json.dumps(golden, separators=(",", ":")) + "\n")


if __name__ == "__main__":
    main()
