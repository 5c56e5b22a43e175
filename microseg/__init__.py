"""Phase fractions from micrographs: train, export, segment."""

__version__ = "0.1.0"
