"""Random answers of ten people with a prediction, for make_vqa_official.py and the test of what it wrote.

Answers are put together from words, number words, articles, contractions with and without apostrophes, and marks, and
people say them in slightly different ways, so that normalisation decides whether they agree.
"""

import random

_TEXT = """
dog cat T-shirt tennis racket blue Red green/white N.Y. U.S.A. 1,000 1,5,7 3.5 10:30 .5 2 10 café naïve don't
dont won't wont it's its Ive I've couldnt've couldn'tve couldn't've somebody'd somebodyd let's she's y'all'd've
yall'd've 'twas twas o'clock oclock none zero one two three ten eleven a an the A The yes no Yes! no. half-eaten
(left) "quoted" [x] {y} a+b=c <b> @home `tick` under_score back\\slash semi;colon ques?tion comma,comma 50% $5 &
# mr. ...
"""
WORDS = _TEXT.split()
MARKS = ["", "", "", "", ".", "!", "?", " .", ", ", " ,", "-", " - ", "/", "\n", "\t", "  ", "...", ";"]


def spoken(rng: random.Random, base: list[str]) -> str:
    """One person's way to say it."""

    def drawn(of: list[str]) -> str:
        return of[int(rng.random() * len(of))]

    words = list(base)
    if rng.random() < 0.25:
        words.insert(0, drawn(["a", "the", "An", "two"]))
    if rng.random() < 0.1:
        words[-1] = drawn(WORDS)
    text = "".join(word + (" " if rng.random() < 0.9 else drawn(MARKS)) for word in words)
    if rng.random() < 0.2:
        text = text.upper() if rng.random() < 0.3 else text.capitalize()
    if rng.random() < 0.25:
        text = text.replace("'", "")
    return text.strip(" ") + drawn(MARKS)


def answer_sets(count: int, seed: int = 0) -> list[tuple[str, list[str]]]:
    """(prediction, ten answers), so many times. Only `random()` is drawn from, whose numbers no version changes."""
    rng = random.Random(seed)
    sets = []
    for _ in range(count):
        bases = [
            [WORDS[int(rng.random() * len(WORDS))] for _ in range(1 + int(rng.random() * 3))]
            for _ in range(1 + int(rng.random() * 3))
        ]
        if rng.random() < 0.1:
            answers = [spoken(rng, bases[0])] * 10  # all agree: the official code then looks at nothing
        else:
            answers = [spoken(rng, bases[int(rng.random() ** 2 * len(bases))]) for _ in range(10)]
        prediction = spoken(rng, bases[0]) if rng.random() < 0.7 else answers[int(rng.random() * 10)]
        sets.append((prediction, answers))
    return sets
