"""COCO's own scorers of captions: pycocoevalcap and its Java programs (extra `captions`), where they are there.

They are BLEU, METEOR, ROUGE-L and CIDEr on words cut by Stanford's tokenizer. SPICE is left out: it is not in the
package, which downloads half a gigabyte for it over plain HTTP, and its Java program is older than today's Java.
"""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Sequence
from importlib import util
from pathlib import Path

from mm_mhmoe_eval.captions.bleu import Words

_PACKAGE = "pycocoevalcap"
_JAR = "stanford-corenlp-3.4.1.jar"


def missing() -> str | None:
    """What is not there, of what the official scorers need; None: all is."""
    if util.find_spec(_PACKAGE) is None:
        return "the extra `captions` (pip install 'mm-mhmoe[captions]')"
    if shutil.which("java") is None:
        return "Java (a `java` on PATH)"
    return None


def official_words(captions: Sequence[str]) -> list[list[str]]:
    """Words as the official scorers see them: Stanford's Penn Treebank tokens, lower case, without punctuation."""
    from pycocoevalcap.tokenizer import ptbtokenizer

    lines = "".join(" ".join(caption.split()) + "\n" for caption in captions)
    jar = Path(ptbtokenizer.__file__).parent / _JAR
    main = ["-cp", str(jar), "edu.stanford.nlp.process.PTBTokenizer", "-preserveLines", "-lowerCase"]
    done = subprocess.run(
        ["java", "-Dfile.encoding=UTF-8", *main], input=lines.encode(), capture_output=True, check=False
    )
    cut = done.stdout.decode().splitlines() if done.returncode == 0 else []
    if len(cut) != len(captions):
        raise ValueError(
            f"java {' '.join(main)} made {len(cut)} lines of {len(captions)}: {done.stderr.decode()[-300:].strip()}; "
            "mend Java, or remove pycocoevalcap to be scored without it"
        )
    return [[word for word in line.split() if word not in ptbtokenizer.PUNCTUATIONS] for line in cut]


def official_scores(
    captions: Sequence[Words], references: Sequence[Sequence[Words]]
) -> tuple[dict[str, float], dict[str, list[float]]]:
    """Scores of all captions together, and of each of them, by name."""
    from pycocoevalcap.bleu.bleu import Bleu
    from pycocoevalcap.cider.cider import Cider
    from pycocoevalcap.meteor.meteor import Meteor
    from pycocoevalcap.rouge.rouge import Rouge

    numbered = range(len(captions))
    written = {n: [" ".join(captions[n])] for n in numbered}
    wanted = {n: [" ".join(reference) for reference in references[n]] for n in numbered}
    together, each = {}, {}
    for name, scorer in (("meteor", Meteor()), ("rouge_l", Rouge()), ("cider", Cider())):
        score, scores = scorer.compute_score(wanted, written)
        together[name], each[name] = float(score), [float(value) for value in scores]
    bleus, _ = Bleu(4).compute_score(wanted, written, verbose=0)
    return together | {f"bleu_{size}": bleus[size - 1] for size in (1, 2, 3, 4)}, each
