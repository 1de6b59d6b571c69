"""A run that is killed again and again, without a word of warning, against one that is left in peace."""

import json
import subprocess
import sys
from pathlib import Path

from mm_mhmoe.models.checkpoints import load

KILLS, STEPS, ACCUMULATE = 10, 50, 2


def test_ten_kills_change_neither_the_samples_nor_a_bit_of_the_weights(pretrain_words, tmp_path: Path) -> None:
    words = pretrain_words(
        tmp_path,
        steps=STEPS,
        **{
            "run.workers": 2,
            "run.accumulate": ACCUMULATE,
            "run.checkpoint_every": 3,
            "encoder.drop_path": 0.3,
            "encoder.moe.router_jitter": 0.1,
        },
    )
    words.remove(f"--out={tmp_path}")
    (tmp_path / "config.json").write_text(
        json.dumps({"words": words, "folder": str(tmp_path), "kills": KILLS, "seed": 7})
    )
    script = Path(__file__).with_name("killed_run.py")
    done = subprocess.run([sys.executable, script, tmp_path / "config.json"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]

    whole = (tmp_path / "whole.keys").read_text().splitlines()
    assert len(whole) == STEPS * ACCUMULATE
    expected = {tuple(line.split(" ", 2)[:2]): line for line in whole}
    seen = (tmp_path / "killed.keys").read_text().splitlines()
    assert len(seen) > len(whole)  # steps after the last checkpoint came again
    assert {tuple(line.split(" ", 2)[:2]): line for line in seen} == expected
    assert all(expected[tuple(line.split(" ", 2)[:2])] == line for line in seen)
    ours, theirs = (load(tmp_path / name).state_dict() for name in ("killed", "whole"))
    assert ours.keys() == theirs.keys() and all(ours[name].equal(theirs[name]) for name in ours)
