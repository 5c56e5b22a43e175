"""What a figure was measured on."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version

from microseg.core.system.machine import machine

__all__ = ["machine", "versions"]


def versions(*packages: str) -> dict[str, str]:
    """Installed versions; packages that are absent are left out."""
    found = {}
    for package in packages:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found
