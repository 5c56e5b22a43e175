"""Two folds that train side by side until they are told to stop. A script, which imports little: each process does it anew."""

from __future__ import annotations

import sys
import time
from dataclasses import dataclass
from pathlib import Path

from microseg.train.common.parallel.folds import train_folds
from microseg.train.common.parallel.ranks import ALONE, Ranks
from microseg.train.common.parallel.stopping import StopRequest
from microseg.train.common.progress import ProgressCallback


@dataclass(frozen=True)
class Saves:
    """A fold that takes a second to save when it is told to stop."""

    fold: int
    folder: Path

    def run(self, report: ProgressCallback, ranks: Ranks = ALONE) -> None:
        """Train until told."""
        with StopRequest() as stop:
            for step in range(500):
                report(step, 500, "")
                time.sleep(0.1)
                if stop.made:
                    time.sleep(1)
                    (self.folder / f"saved{self.fold}").touch()
                    raise KeyboardInterrupt

    def ranks_at_most(self, workers: int) -> int:
        """As many as there are."""
        return workers


def main(place: Path) -> None:
    """Leave told0 and told1 in the folder as soon as both train, and saved0 and saved1 when both have saved."""

    def told(fold: int) -> ProgressCallback:
        return lambda step, steps, text: (place / f"told{fold}").touch()

    try:
        train_folds([Saves(0, place), Saves(1, place)], 2, told)
    except KeyboardInterrupt:
        sys.exit(130)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
