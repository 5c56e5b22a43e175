"""The versions that a figure was measured with."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version

from microseg.core.system.machine import machine

__all__ = ["machine", "versions"]


def versions(*packages: str) -> dict[str, str]:
    """Installed versions. Leaves out packages that are absent."""
    found = {}
    for package in packages:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found
