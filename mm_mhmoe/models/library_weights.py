"""Models of other libraries, made by name: weights that depend on the name only, and one clear error."""

from __future__ import annotations

import logging
import os
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch

SEED = 0
"""Of random weights: a model's name says all about it."""


def make_by_name(name: str, make: Callable[[], Any]) -> Any:
    """What `make` gives; other random numbers stay as they would be without it.

    Without a network, weights that were downloaded before are used, and others are refused at once: their libraries
    would try for most of a minute.

    Args:
        name: how the user named it, with the option that took the name.

    Raises:
        ValueError: it cannot be made, or its weights cannot be had; names the remedy.
    """
    with torch.random.fork_rng(devices=[]), _no_waiting_for_a_network():
        torch.manual_seed(SEED)
        try:
            return make()
        except (OSError, RuntimeError, ValueError) as error:
            reason = str(error).rstrip(".")
            raise ValueError(
                f"{name} cannot be made: {reason}. Check the name, and that its weights can be downloaded; a "
                "name that ends in / asks for random weights"
            ) from error


@contextmanager
def _no_waiting_for_a_network() -> Iterator[None]:
    if _hub_can_be_found():
        yield
        return
    from huggingface_hub import constants

    before = constants.HF_HUB_OFFLINE
    constants.HF_HUB_OFFLINE = True
    logging.disable(logging.ERROR)  # open_clip logs the error that it raises as well
    try:
        yield
    finally:
        constants.HF_HUB_OFFLINE = before
        logging.disable(logging.NOTSET)


def _hub_can_be_found() -> bool:
    """Whether the name of the Hugging Face Hub means anything here. A mirror or proxy finds names by itself."""
    if any(os.environ.get(name) for name in ("HF_ENDPOINT", "HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy")):
        return True
    try:
        return bool(socket.getaddrinfo("huggingface.co", 443))
    except OSError:
        return False
