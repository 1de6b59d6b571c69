"""mm-mhmoe: masked pretraining of an image-text encoder with Multi-Head Mixture-of-Experts FFNs."""

from importlib.metadata import PackageNotFoundError, version

try:
    __version__ = version("mm-mhmoe")
except PackageNotFoundError:  # a source tree on the path that was never installed
    __version__ = "0.0.0"
