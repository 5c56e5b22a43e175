"""`python -m benchmarks.documentation`: the site of `make docs`, offline; warnings are errors.

`--figures` first writes the tables of figures into the pages, from `benchmarks/results`. `--transcripts` first runs the
commands of the tutorial and writes what they print into the page.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from benchmarks.documentation.figures import marked_pages, with_tables
from benchmarks.documentation.site import PAGES, ROOT, build
from benchmarks.documentation.transcripts import write_transcripts


def main() -> None:
    """Build the site."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=ROOT / "site", help="folder to write (default: site)")
    parser.add_argument(
        "--transcripts", action="store_true", help="run the commands of the tutorial and write their output"
    )
    parser.add_argument("--figures", action="store_true", help="write the tables of figures into the pages")
    options = parser.parse_args()
    if options.transcripts:
        write_transcripts(PAGES / "tutorial.md")
    if options.figures:
        for page in marked_pages():
            page.write_text(with_tables(page.read_text(encoding="utf-8")), encoding="utf-8")
    build(options.out.resolve())
    print(f"Documentation: {options.out.resolve() / 'index.html'}")


if __name__ == "__main__":
    main()
