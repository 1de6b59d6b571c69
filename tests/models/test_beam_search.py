"""Truth: the same search written as loops over lists, with every text's probabilities asked anew; all texts that there
are, one by one. The probabilities are made up: a function of what was written."""

from itertools import product

import pytest
import torch

from mm_mhmoe.models.beam_search import SearchOptions, beam_search

WORDS, END, NEVER = 6, 2, (0, 1)


class Table:
    """Log probabilities of the next token as a made-up function of the text and of what was written. A `Writer`."""

    def __init__(self, texts, end_bias=0.0):
        self.texts, self.end_bias, self.asked = texts, end_bias, 0

    def logp(self, text, tokens):
        number = text
        for token in tokens:
            number = number * WORDS + token + 1
        logits = torch.randn(WORDS, generator=torch.Generator().manual_seed(number), dtype=torch.float64) * 1.5
        logits[END] += self.end_bias
        return logits.log_softmax(0)

    def begin(self):
        self.rows = [(text, ()) for text in range(self.texts)]
        return self._all()

    def go_on(self, from_R, tokens_R):
        before = [self.rows[row] for row in from_R.tolist()]
        self.rows = [(text, (*tokens, new)) for (text, tokens), new in zip(before, tokens_R.tolist(), strict=True)]
        return self._all()

    def _all(self):
        self.asked += len(self.rows)
        return torch.stack([self.logp(*row) for row in self.rows])


def repeats(tokens, size):
    parts = [tokens[i : i + size] for i in range(len(tokens) - size + 1)]
    return size > 0 and len(set(parts)) < len(parts)


def search_in_lists(logp_of, options, max_tokens):
    beams, results = [(0.0, ())], []
    for length in range(1, max_tokens + 1):
        candidates = []
        for logp, tokens in beams:
            for token, more in enumerate(logp_of(tokens).tolist()):
                allowed = token == END if length == max_tokens else token not in NEVER
                if allowed and (token == END or not repeats((*tokens, token), options.no_repeat)):
                    candidates.append((logp + more, tokens, token))
        beams = []
        candidates.sort(key=lambda candidate: -candidate[0])
        for logp, tokens, token in candidates:
            if len(beams) == options.beams:
                break
            if token == END:
                results.append((logp / length**options.length_penalty, tokens))
            else:
                beams.append((logp, (*tokens, token)))
        if options.beams == 1 and candidates[0][2] == END:
            break
    return max(results)


def run(table, options, max_tokens=6):
    return beam_search(table, options, max_tokens=max_tokens, end=END, never=NEVER)


@pytest.mark.parametrize("beams", [1, 2, 3, 5])
@pytest.mark.parametrize("penalty", [0.0, 0.6, 2.0])
@pytest.mark.parametrize("no_repeat", [0, 1, 2])
def test_equals_a_search_in_lists(beams, penalty, no_repeat):
    options = SearchOptions(beams=beams, length_penalty=penalty, no_repeat=no_repeat)
    table = Table(12)
    for text, written in enumerate(run(table, options)):
        score, tokens = search_in_lists(lambda tokens, text=text: table.logp(text, tokens), options, 6)
        assert written.tokens == list(tokens)
        assert written.score == pytest.approx(score)


@pytest.mark.parametrize("penalty", [0.0, 0.6])
def test_enough_beams_find_the_best_of_all_texts(penalty):
    table, words = Table(5), [token for token in range(WORDS) if token not in (END, *NEVER)]
    for text, written in enumerate(run(table, SearchOptions(beams=30, length_penalty=penalty), max_tokens=4)):
        scores = {}
        for count in range(4):
            for tokens in product(words, repeat=count):
                row = (*tokens, END)
                logp = sum(float(table.logp(text, row[:i])[token]) for i, token in enumerate(row))
                scores[tokens] = logp / len(row) ** penalty
        assert tuple(written.tokens) == max(scores, key=scores.get)
        assert written.score == pytest.approx(max(scores.values()))


def test_greedy_takes_the_likeliest_token_each_time():
    table = Table(8)
    for text, written in enumerate(run(table, SearchOptions(beams=1))):
        tokens = ()
        while len(tokens) < 5:
            logp = table.logp(text, tokens)
            logp[list(NEVER)] = float("-inf")
            if logp.argmax() == END:
                break
            tokens = (*tokens, int(logp.argmax()))
        assert written.tokens == list(tokens)


def test_a_larger_penalty_writes_longer_texts():
    lengths = [
        sum(len(written.tokens) for written in run(Table(30), SearchOptions(length_penalty=penalty)))
        for penalty in (0.0, 0.6, 3.0)
    ]
    assert lengths[0] < lengths[1] < lengths[2]


def test_a_text_that_is_found_is_not_asked_about_any_more():
    likely, unlikely = Table(10, end_bias=6.0), Table(10, end_bias=-6.0)
    run(likely, SearchOptions())
    run(unlikely, SearchOptions())
    assert unlikely.asked == 10 + 5 * 30 and likely.asked < unlikely.asked / 2


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"beams": 0}, "search.beams=0"),
        ({"length_penalty": -0.1}, "search.length_penalty=-0.1"),
        ({"max_length": 2}, "search.max_length=2"),
        ({"no_repeat": -1}, "search.no_repeat=-1"),
    ],
)
def test_options_are_checked(wrong, message):
    with pytest.raises(ValueError, match=message):
        SearchOptions(**wrong)
