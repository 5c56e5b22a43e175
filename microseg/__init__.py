"""Phase fractions from micrographs: train, export, segment."""

import os

# ONNX Runtime 1.32 keeps an identifier in the user's home and reports its use to its maker. A station reports to nobody.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

__version__ = "0.1.0"
