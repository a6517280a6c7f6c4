"""`tensorrt` of a fake board: see fakes/tensorrt.py. It is a fake, and nothing timed on it is a measurement."""

from __future__ import annotations

import sys

from fakes.board_process import process_tensorrt

_fake = process_tensorrt()
_fake.__spec__ = __spec__
_fake.__path__ = __path__
_fake.__file__ = __file__
sys.modules[__name__] = _fake
