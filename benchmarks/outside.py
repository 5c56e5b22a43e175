"""`python -m benchmarks.outside [--json FILE]`: the share of `segment`'s time outside the network, in many turns.

`benchmarks.throughput` prints this share from three repeats. The speed of a shared machine changes by more than the share
itself, so this command takes more. A turn is the network alone on half of the fields, `segment` on all fields, and the
network alone on the other half.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path
from statistics import median, quantiles

from benchmarks.machine import machine
from benchmarks.random_engine import write_random_engine
from benchmarks.throughput import BYTES_PER_PIXEL, ENCODER, ENGINES, HEIGHT, WIDTH, measured
from microseg.core.system.files import write_json


def main() -> None:
    """Measure, print the median with the quartiles, and write JSON with --json."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    parser.add_argument("--engine", choices=["f32", "int8"], default="f32")
    parser.add_argument("--fields", type=int, default=40)
    parser.add_argument("--turns", type=int, default=9)
    options = parser.parse_args()
    from microseg.synthetic.folder import write_domain

    with tempfile.TemporaryDirectory() as temporary:
        work = Path(temporary)
        write_domain(work / "domain", "s", options.fields, 0, size_px=(WIDTH, HEIGHT))
        engine = work / f"{options.engine}.onnx"
        write_random_engine(engine, ENCODER, 1, BYTES_PER_PIXEL, precision=ENGINES[options.engine][3])
        half, turns = options.fields // 2, []
        for _ in range(options.turns):
            before = measured(f"network_{options.engine}", work, half)
            whole = measured(options.engine, work, options.fields)
            after = measured(f"network_{options.engine}", work, options.fields - half)
            turns.append({"network": before["seconds"] + after["seconds"], "segment": whole["seconds"]})
    shares = [1 - turn["network"] / turn["segment"] for turn in turns]
    lower, _, upper = quantiles(shares, n=4)
    print(f"outside the network: {100 * median(shares):.1f} % [{100 * lower:.1f}, {100 * upper:.1f}]")
    if options.json:
        found = {
            "outside_network_share": median(shares),
            "quartiles": [lower, upper],
            "shares": shares,
            "seconds": turns,
        }
        write_json(options.json, found | {"engine": options.engine, "fields": options.fields, "machine": machine()})


if __name__ == "__main__":
    main()
