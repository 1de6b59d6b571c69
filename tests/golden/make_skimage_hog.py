"""Golden values of skimage.feature.hog: tests/golden/skimage_hog.safetensors.

In a throw-away environment:

    pip install scikit-image==0.26.0 numpy safetensors
    python tests/golden/make_skimage_hog.py

Two pictures of random pixels, and one with flat parts; each channel alone, cells of 4 px, blocks of one cell.
"""

from pathlib import Path

import numpy as np
from safetensors.numpy import save_file
from skimage.feature import hog

rng = np.random.default_rng(0)
pixels = rng.integers(0, 256, (3, 3, 16, 24), dtype=np.uint8)
pixels[2, :, :, :8] = 200
pixels[2, :, 8:] = pixels[2, :, 8:9]  # stripes: gradients in one direction only
histograms = np.stack(
    [
        [
            hog(channel / 255.0, 9, (4, 4), (1, 1), block_norm="L2", feature_vector=False)[:, :, 0, 0]
            for channel in picture
        ]
        for picture in pixels
    ]
).astype(np.float32)
save_file({"pixels": pixels, "histograms": histograms}, Path(__file__).with_name("skimage_hog.safetensors"))
