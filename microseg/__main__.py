"""`python -m microseg`, and the command `microseg`."""

from __future__ import annotations

import sys


def main() -> None:
    """Run the command line. Ctrl-C during its import ends in a message, as it does later."""
    try:
        from microseg.cli.streams import settle_streams

        # Before files are opened, which would get the number of a stream that is closed.
        settle_streams()
        from microseg.cli.main import main as run
    except KeyboardInterrupt:
        print("microseg: interrupted before the start.", file=sys.stderr)
        raise SystemExit(130) from None
    run()


if __name__ == "__main__":
    main()
