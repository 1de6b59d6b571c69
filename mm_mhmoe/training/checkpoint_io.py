"""Checkpoints that are whole or not there."""

from __future__ import annotations

import hashlib
import io
import os
from pathlib import Path
from typing import Any

import torch
from lightning.fabric.plugins.io import TorchCheckpointIO

SUFFIX = ".ckpt"
CHECKSUM = ".sha256"


def write_atomically(path: Path, content: bytes) -> None:
    """Temporary file beside it, fsync, rename, fsync of the directory: a full disk or a kill leaves the old file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        with partial.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)
    directory = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)


class AtomicCheckpointIO(TorchCheckpointIO):
    """Lightning's checkpoint files, written atomically with a checksum beside them."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any | None = None) -> None:
        buffer = io.BytesIO()
        torch.save(checkpoint, buffer)
        content = buffer.getvalue()
        target = Path(path)
        write_atomically(target, content)
        write_atomically(target.with_suffix(CHECKSUM), hashlib.sha256(content).hexdigest().encode())


def newest_checkpoint(directory: Path) -> Path | None:
    """The newest checkpoint whose checksum holds; damaged ones are passed over."""
    return next((path for path in sorted(directory.glob(f"step_*{SUFFIX}"), reverse=True) if is_whole(path)), None)


def is_whole(path: Path) -> bool:
    """Whether a checkpoint's checksum is there and holds."""
    recorded = path.with_suffix(CHECKSUM)
    return recorded.is_file() and recorded.read_text().strip() == hashlib.sha256(path.read_bytes()).hexdigest()
