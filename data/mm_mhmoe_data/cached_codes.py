"""Codes of pictures that were computed before: what they depend on, and where they lie.

OUT/<stream>/manifest.json            the recipe, and the shards with their numbers of epochs
OUT/<stream>/<sha256 of shard>.npy    codes of one shard, of every sample that is in it and has what the stream needs

A crop is a function of (seed, epoch, key, stream), and so are its codes. Files are named by the shard's content, so
that they hold wherever the shard lies, and never for another one.

Shapes: E epochs, n samples of a shard (in its order, those without a picture too), N patches.
"""

from __future__ import annotations

import json
from collections import OrderedDict
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mm_mhmoe_data.config import DataConfig
from mm_mhmoe_data.pipeline import Parts, ShardDataset
from mm_mhmoe_data.sampling import Pick
from mm_mhmoe_data.whole_file import whole_file

MANIFEST = "manifest.json"
FORMAT = 2  # goes up when the same recipe gives other crops
_OPEN_FILES = 64


@dataclass(frozen=True, kw_only=True)
class CodeRecipe:
    """What the codes of a sample's crop depend on, besides its epoch, its key and the stream.

    tokenizer: fingerprint of the visual tokenizer. precision: that it runs in. captions: how the caption is drawn that
    decides about a flip; None where captions decide nothing. The others are as in `TrainTransform`.
    """

    tokenizer: str
    precision: str
    image_size: int
    min_scale: float
    flip: str
    color_jitter: float
    interpolation: str
    captions: str | None
    seed: int


def code_recipe(
    data: DataConfig, *, tokenizer: str, precision: str, image_size: int, min_scale: float, seed: int
) -> CodeRecipe:
    """The recipe of a run with these options."""
    return CodeRecipe(
        tokenizer=tokenizer,
        precision=precision,
        image_size=image_size,
        min_scale=min_scale,
        flip=data.flip,
        color_jitter=data.color_jitter,
        interpolation=data.interpolation,
        captions=data.captions if data.flip == "caption" else None,
        seed=seed,
    )


def code_type(num_codes: int) -> Any:
    """The integers of a file. Their largest value is no code: it stands for a sample without codes."""
    return np.uint16 if num_codes < 1 << 16 else np.uint32


def code_file(folder: Path, sha256: str) -> Path:
    return folder / f"{sha256}.npy"


def read_codes(path: Path) -> NDArray[Any]:
    """(E, n, N), from the disk when they are asked for. Raises ValueError for a damaged file."""
    try:
        codes_EnN = np.load(path, mmap_mode="r")
    except (ValueError, EOFError) as error:
        raise ValueError(
            f"{path} is damaged ({error}); delete it and run mm-mhmoe data tokenize-images again"
        ) from error
    return codes_EnN


def write_codes(path: Path, codes_EnN: NDArray[Any]) -> None:
    """Appears under its name only when it is complete."""
    with whole_file(path) as temporary, temporary.open("wb") as file:
        np.save(file, codes_EnN)


def write_manifest(folder: Path, recipe: CodeRecipe, shards: dict[str, str], epochs: int) -> None:
    """`shards`: names by sha256."""
    content = {"format": FORMAT, "stream": folder.name, "recipe": asdict(recipe), "epochs": epochs, "shards": shards}
    with whole_file(folder / MANIFEST) as temporary:
        temporary.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


def read_manifest(folder: Path) -> dict[str, Any]:
    """Raises ValueError if there is none that can be read."""
    path = folder / MANIFEST
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise ValueError(
            f"{path} does not exist; make codes of this stream with mm-mhmoe data tokenize-images"
        ) from error
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} is damaged ({error}); delete {folder} and make the codes again") from error
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise ValueError(f"{path} is not of format {FORMAT}; delete {folder} and make the codes again")
    return content


def check_recipe(folder: Path, wanted: CodeRecipe) -> dict[str, Any]:
    """The manifest. Raises ValueError with every difference between its recipe and the one wanted."""
    manifest = read_manifest(folder)
    found, ours = manifest["recipe"], asdict(wanted)
    names = sorted(found.keys() | ours.keys())
    told = [f"{k}: {found.get(k)} there, {ours.get(k)} here" for k in names if found.get(k) != ours.get(k)]
    if told:
        raise ValueError(
            f"the codes in {folder} are not those of this run ({'; '.join(told)}): use the same options, or make codes "
            "for these in another folder (mm-mhmoe data tokenize-images)"
        )
    return manifest


class CachedCodes:
    """Codes of a stream's samples.

    Raises:
        ValueError: they were made by another recipe, or a shard has none.
    """

    def __init__(self, folder: Path, recipe: CodeRecipe, dataset: ShardDataset, stream: Parts) -> None:
        self.folder = folder / stream
        self.epochs = int(check_recipe(self.folder, recipe)["epochs"])
        self.dataset = dataset
        self._files: OrderedDict[str, NDArray[Any]] = OrderedDict()
        missing = [
            str(shard) for shard, sha256 in dataset.used_shards() if not code_file(self.folder, sha256).is_file()
        ]
        if missing:
            raise ValueError(
                f"{self.folder} has no codes of {', '.join(missing[:3])}{' ...' if len(missing) > 3 else ''} "
                f"({len(missing)} shards); run mm-mhmoe data tokenize-images on them, which goes on where it was"
            )

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_files": OrderedDict()}

    def __call__(self, pick: Pick) -> Tensor | None:
        """int64 (N,); None if they were not computed for this epoch, or the picture could not be read."""
        sha256, place = self.dataset.place(pick.sample)
        codes_EnN = self._open(sha256)
        if pick.epoch >= len(codes_EnN):
            return None
        codes_N = codes_EnN[pick.epoch, place]
        if codes_N[0] == np.iinfo(codes_EnN.dtype).max:
            return None
        return torch.from_numpy(codes_N.astype(np.int64))

    def _open(self, sha256: str) -> NDArray[Any]:
        if sha256 not in self._files:
            self._files[sha256] = read_codes(code_file(self.folder, sha256))
            if len(self._files) > _OPEN_FILES:
                self._files.popitem(last=False)
        return self._files[sha256]
