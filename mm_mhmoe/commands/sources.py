"""Where a command's parts come from: shipped data (`demo:train`) and configurations (`demo/x.yaml`), other models."""

from __future__ import annotations

from dataclasses import replace
from importlib.resources import files
from pathlib import Path

from mm_mhmoe_data.config import DataConfig

import mm_mhmoe
from mm_mhmoe.config import EncoderConfig
from mm_mhmoe.models.checkpoints import read_encoder_config


def data_path(source: str) -> str:
    """`demo:PART` as the path of the shipped data, also among others joined by ::; anything else as it is."""
    return "::".join(map(_demo_path, source.split("::")))


def own_shards(data: DataConfig) -> DataConfig:
    """The same, with `demo:PART` as paths."""
    return replace(
        data,
        image_shards=data_path(data.image_shards) if data.image_shards else None,
        text_shards=data_path(data.text_shards) if data.text_shards else None,
    )


def _demo_path(source: str) -> str:
    if not source.startswith("demo:"):
        return source
    root = Path(str(files("mm_mhmoe_data"))) / "demo"
    path = root / source.removeprefix("demo:")
    if not path.exists():
        known = ", ".join(f"demo:{p.name}" for p in sorted(root.iterdir()) if p.is_dir()) if root.is_dir() else "none"
        raise ValueError(f"{source} is not part of the demo data; known are {known}")
    return str(path)


def config_path(name: str) -> Path:
    """A shipped configuration: inside an installed package, or beside it in a checkout."""
    package = Path(mm_mhmoe.__file__).parent
    for root in (package / "configs", package.parent / "configs"):
        if (root / name).is_file():
            return root / name
    raise ValueError(f"configuration {name} is not shipped; see the files in configs/")


def check_stamps(stamps: Path) -> None:
    """Raises ValueError if `data build tuxpaint` did not write there."""
    for split in ("train", "test"):
        if not (stamps / split).is_dir():
            raise ValueError(
                f"stamps={stamps} has no {split}/; make it with: mm-mhmoe data build tuxpaint --image_size 96 "
                f"--root ... --out {stamps}"
            )


def encoder_of(init: Path | None) -> EncoderConfig:
    """The encoder that a run without one of its own takes: that of the model it starts from."""
    if init is None:
        raise ValueError("neither init nor encoder is given; name a pretrained model (--init) or describe an encoder")
    return read_encoder_config(init)


def at_image_size(encoder: EncoderConfig, image_size: int | None) -> EncoderConfig:
    """The same encoder for pictures of that side in pixels; None: as it is."""
    if image_size is None:
        return encoder
    return replace(encoder, vision=replace(encoder.vision, image_size=image_size))
