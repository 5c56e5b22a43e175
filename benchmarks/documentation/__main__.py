"""`python -m benchmarks.documentation [--out FOLDER]`: the site of `make docs`, offline; warnings are errors."""

from __future__ import annotations

import argparse
from pathlib import Path

from benchmarks.documentation.site import ROOT, build


def main() -> None:
    """Build the site."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=ROOT / "site", help="folder to write (default: site)")
    options = parser.parse_args()
    build(options.out.resolve())
    print(f"Documentation: {options.out.resolve() / 'index.html'}")


if __name__ == "__main__":
    main()
