"""Makes pycocoevalcap.json: what COCO's caption scorers say about made-up captions, with awkward ones among them.

Run where pycocoevalcap 1.2 and Java are installed (no other package is needed):
    python tests/golden/make_pycocoevalcap.py
"""

import json
from pathlib import Path

from pycocoevalcap.bleu.bleu import Bleu
from pycocoevalcap.cider.cider import Cider
from pycocoevalcap.meteor.meteor import Meteor
from pycocoevalcap.rouge.rouge import Rouge
from pycocoevalcap.tokenizer.ptbtokenizer import PTBTokenizer

# A caption, and what people said of the same picture.
PICTURES = [
    ("A red car is parked beside a wooden fence.", [
        "A red car stands next to a fence.",
        "The red car is parked beside an old wooden fence",
        "An old car, painted red, parked on gravel.",
        "a car by a fence",
        "There's a red car parked beside a wooden fence.",
    ]),
    ("two dogs playing with a ball on the grass", [
        "Two dogs run after a ball.",
        "Dogs are playing on the grass with a ball",
        "Two dogs playing with a ball on the grass",
    ]),
    ("a man a man a man a man", ["A man's riding a horse.", "a man rides a brown horse along the beach"]),
    ("a plate of food", ["A plate with rice, beans and a fried egg on a white table-cloth."]),
    ("", ["An empty street at night.", "street lamps over an empty street"]),
    ("a yellow submarine made of 3,000 bricks (on a shelf)", [
        "A yellow submarine (toy) of 3,000 bricks; it's on the shelf.",
        "toy submarine, yellow!",
    ]),
    ("the children do not want to go home", ["The children don't want to go home", "Children who won't go home?"]),
    ("a cat sleeping on top of a computer keyboard next to a cup of tea and a pile of old books", [
        "a cat on a keyboard",
        "A cat sleeps on a keyboard",
    ]),
    ("flag of canada", ["flag of canada", "a flag"]),
    ("a black and white photo of St. Peter's at 5 p.m.", ["A black-and-white photo of St. Peter's Church."]),
    ("zebra", ["A zebra.", "One zebra stands in tall grass near a zebra foal."]),
    ("a red car is parked", ["A bicycle leans against the wall.", "a bicycle and a wall"]),
]  # fmt: skip


def main() -> None:
    written = {n: [{"caption": caption}] for n, (caption, _) in enumerate(PICTURES)}
    wanted = {n: [{"caption": said} for said in own] for n, (_, own) in enumerate(PICTURES)}
    words = [PTBTokenizer().tokenize(texts) for texts in (written, wanted)]
    scores: dict[str, object] = {}
    for name, scorer in (("cider", Cider()), ("rouge_l", Rouge()), ("meteor", Meteor())):
        together, each = scorer.compute_score(words[1], words[0])
        scores[name] = {"together": float(together), "each": [float(score) for score in each]}
    for size, score in enumerate(Bleu(4).compute_score(words[1], words[0], verbose=0)[0], start=1):
        scores[f"bleu_{size}"] = {"together": score}
    content = {
        "captions": [caption for caption, _ in PICTURES],
        "references": [own for _, own in PICTURES],
        "caption_words": [words[0][n][0].split() for n in range(len(PICTURES))],
        "reference_words": [[line.split() for line in words[1][n]] for n in range(len(PICTURES))],
        "scores": scores,
    }
    Path(__file__).with_name("pycocoevalcap.json").write_text(json.dumps(content, indent=1) + "\n")


if __name__ == "__main__":
    main()
