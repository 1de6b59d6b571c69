"""The layers stay usable alone: importing them pulls in no trainer, no configuration, no process group."""

import subprocess
import sys

import mm_mhmoe.nn


def test_every_public_name_exists():
    assert all(hasattr(mm_mhmoe.nn, name) for name in mm_mhmoe.nn.__all__)


def test_imports_nothing_of_the_upper_rooms():
    code = (
        "import sys, mm_mhmoe.nn\n"
        "print(sorted(m for m in sys.modules if m.startswith(('mm_mhmoe.', 'lightning', 'timm'))))"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    rooms = {name.split(".")[1] for name in eval(out) if name.startswith("mm_mhmoe.")}
    assert rooms == {"nn"}
    assert not any(name.startswith(("lightning", "timm")) for name in eval(out))
