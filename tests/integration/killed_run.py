"""Pretrains once in peace and once under `kill -9`, and leaves the keys that each batch held.

Run as a script of its own: `killed_run.py CONFIG.json`, with {"words": the command without --out, "folder": ...,
"kills": ..., "seed": ...}. Writes folder/{whole,killed}.keys: a line "STEP BATCH KEYS" for every batch trained on, in
the order in which that happened.
"""

import json
import os
import random
import signal
import sys
import time
from pathlib import Path

from mm_mhmoe import cli
from mm_mhmoe.commands import pretrain as command
from mm_mhmoe.training.modules import PretrainModule

assert command  # imported here once, not in every child


def child(words: list[str], keys: Path) -> None:
    step = PretrainModule.training_step

    def noted(self, batch, batch_idx):
        held = [",".join(stream.keys) for stream in (batch.images, batch.texts, batch.pairs)]
        with keys.open("a") as file:
            file.write(f"{self.trainer.global_step} {batch_idx} {' '.join(held)}\n")
        return step(self, batch, batch_idx)

    PretrainModule.training_step = noted
    cli.run(words)


def start(words: list[str], keys: Path) -> int:
    number = os.fork()
    if number == 0:
        code = 1
        try:
            os.setpgid(0, 0)
            child(words, keys)
            code = 0
        finally:
            os._exit(code)
    return number


def lines(path: Path) -> int:
    return path.read_text().count("\n") if path.exists() else 0


def main() -> None:
    config = json.loads(Path(sys.argv[1]).read_text())
    folder, draw = Path(config["folder"]), random.Random(config["seed"])

    def run(name: str, kill: bool) -> bool:
        """Whether the run came to its end."""
        keys = folder / f"{name}.keys"
        number = start([*config["words"], f"--out={folder / name}"], keys)
        wanted = lines(keys) + draw.randint(1, 12)
        while True:
            ended, status = os.waitpid(number, os.WNOHANG)
            if ended:
                assert status == 0, f"the run ended with {status}"
                return True
            if kill and lines(keys) >= wanted:
                time.sleep(draw.uniform(0, 0.05))
                os.kill(number, signal.SIGKILL)
                os.waitpid(number, 0)
                return False
            time.sleep(0.002)

    assert run("whole", kill=False)
    killed = 0
    while killed < config["kills"] and not run("killed", kill=True):
        killed += 1
    assert killed == config["kills"], f"the run was over after {killed} kills; give it more steps"
    assert run("killed", kill=False)


if __name__ == "__main__":
    main()
