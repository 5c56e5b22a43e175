"""`python -m benchmarks.robustness`: damaged files, kills and full disks; no result is lost, wrong or torn.

Each run draws its own damage, moments and sizes, and prints the seed that repeats them. A trial that fails ends the command
with status 1 and leaves its folder.

- damaged: a folder of images of all kinds, nearly all damaged. `segment` exits with 3, names each file, and measures the
  intact ones as it does without the others, within 1 GB.
- killed: `segment` is killed (SIGKILL) at random moments and repeated until its report is complete. No file is torn, and the
  report equals that of an uninterrupted run.
- killed training: the same for `train supervised` with `--resume`; the weights are equal bit for bit.
- full: the disk is full at a random write of `segment`, then has room. A file system of its own is needed, which Linux gives
  to the command where it allows namespaces of users.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from PIL import Image

from benchmarks.damage import write_damaged
from benchmarks.machine import machine, versions
from microseg.core.system.files import is_temporary, write_json

LIMIT_MB = 1000
_MICROSEG = (sys.executable, "-m", "microseg")
_FIELDS = 6
# What a run says of itself and what differs between two equal ones.
_VARIES = {"created", "engine_calls", "run", "seconds", "git_commit"}
# A network that trains in seconds: what is looked at is the state on disk.
RECIPE: dict[str, Any] = {
    "encoder": {"name": "tf_efficientnet_lite0", "weights": "none"},
    "network": {"decoder_channels": [16, 8, 8]},
    "scale": 1.0,
    "tile": {"core_px": 48, "halo_px": 8},
    "augmentation": {"kind": "randomised"},
    "loss": {"kind": "cross_entropy", "dice": 0.5},
    "optimiser": {"learning_rate": 5e-3, "encoder_factor": 1.0, "weight_decay": 1e-4},
    "batch": 2,
    "steps": 12,
    "validate_every": 2,
    "folds": 2,
    "halo_px": 16,
}


class TrialError(Exception):
    """A trial has another outcome than it must have."""


def main() -> None:
    """Try, print what was found, and write JSON with --json."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--damaged", type=int, default=10_000, help="damaged images (default: 10000)")
    parser.add_argument("--kills", type=int, default=250, help="kills of `segment` (default: 250)")
    parser.add_argument("--training-kills", type=int, default=50, help="kills of `train supervised` (default: 50)")
    parser.add_argument("--full", type=int, default=50, help="full disks (default: 50)")
    parser.add_argument("--seed", type=int, help="repeats a run that printed it (default: drawn)")
    parser.add_argument("--engine", type=Path, help="engine to measure with (default: random weights)")
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    parser.add_argument("--on-a-small-disk", type=Path, nargs=3, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.on_a_small_disk:
        fields, engine, place = options.on_a_small_disk
        on_a_small_disk(fields, engine, place, random.Random(options.seed))
        return
    seed = int.from_bytes(os.urandom(4), "big") if options.seed is None else options.seed
    print(f"seed {seed}")
    work = Path(tempfile.mkdtemp(prefix="microseg-robustness-"))
    found: dict[str, Any] = {"seed": seed}
    try:
        engine = options.engine or _engine(work / "engine.onnx")
        counts = (options.damaged, options.kills, options.training_kills, options.full)
        trials: list[Callable[[int, Path, int, Path], dict[str, Any]]] = [damaged, killed, killed_training, full]
        for trial, count in zip(trials, counts, strict=True):
            if count:
                folder = work / trial.__name__
                found[trial.__name__] = trial(count, folder, seed, engine)
                print(f"{trial.__name__}: {found[trial.__name__]}", flush=True)
                shutil.rmtree(folder, ignore_errors=True)
    except TrialError as error:
        raise SystemExit(f"{error}\nseed {seed}; left in {work}") from error
    shutil.rmtree(work)
    if options.json:
        write_json(options.json, found | {"machine": machine(), "versions": versions("microseg", "numpy", "tifffile")})


def damaged(count: int, folder: Path, seed: int, engine: Path) -> dict[str, Any]:
    """Measure a folder of damaged images.

    Args:
        count: number of files.
        folder: place for them and the reports.
        seed: decides the damage.
        engine: the engine.

    Returns:
        Numbers of measured and failed files, peak memory in MB and seconds.

    Raises:
        TrialError: wrong status, a file that is not named, another result of an intact file, or too much memory.
    """
    names, intact = write_damaged(folder / "in", count, seed)
    # Of the same name: it is the section of the fields.
    apart = folder / "intact" / "in"
    apart.mkdir(parents=True)
    for name in intact:
        shutil.copy(folder / "in" / name, apart / name)
    alone = _run([*_segment(apart, engine, folder / "alone")])
    _require(alone.status == 0, f"intact files: status {alone.status}\n{alone.text}")
    begun = time.monotonic()
    found = _run([*_segment(folder / "in", engine, folder / "report")])
    seconds = time.monotonic() - begun
    _require(found.status in (0, 3), f"status {found.status}\n{found.text[-3000:]}")
    rows = _rows(folder / "report")
    failed = [name for name, row in rows.items() if row["status"] == "failed"]
    _require(found.status == (3 if failed else 0), f"status {found.status}\n{found.text[-3000:]}")
    _require("Traceback" not in found.text, found.text[-3000:])
    _require(sorted(rows) == sorted(names), f"not in the table: {sorted(set(names) - set(rows))[:5]}")
    for name in failed:
        reason = rows[name]["reason"]
        _require(name in reason and "Remedy: " in reason, f"{name}: no reason with a remedy: {reason}")
        _require(name in found.text, f"{name}: failed and is not named on the terminal")
    wanted = _rows(folder / "alone")
    for name in intact:
        _require(rows[name] == wanted[name], f"{name}: other figures than alone")
    torn = torn_files(folder / "report")
    _require(not torn, f"torn: {torn}")
    masks = {row["mask"] for row in rows.values() if row["mask"]}
    _require(all((folder / "report" / mask).is_file() for mask in masks), "a mask is missing")
    _require(found.peak_mb < LIMIT_MB, f"peak memory {found.peak_mb:.0f} MB")
    return {
        "files": count, "measured": count - len(failed), "failed": len(failed), "peak_mb": round(found.peak_mb),
        "seconds": round(seconds, 1),
    }  # fmt: skip


def killed(count: int, folder: Path, seed: int, engine: Path) -> dict[str, Any]:
    """Kill `segment` at random moments. Arguments and errors as for `damaged`; `count`: number of kills."""
    _fields(folder / "in")
    command = [*_segment(folder / "in", engine, folder / "report")]
    return _killed(count, folder, random.Random(seed), Repeated(command, command, "report"))


def killed_training(count: int, folder: Path, seed: int, engine: Path) -> dict[str, Any]:
    """Kill `train supervised` at random moments. Arguments and errors as for `damaged`; `count`: number of kills."""
    from microseg.synthetic.folder import write_domain

    write_domain(folder / "source", "s", 4, seed, size_px=(180, 150))
    (folder / "recipe.yaml").write_text(yaml.safe_dump(RECIPE), encoding="utf-8")
    begin = [*_MICROSEG, "train", "supervised", str(folder / "source"), "--recipe", str(folder / "recipe.yaml"),
             "--out", str(folder / "run"), "--workers", "1"]  # fmt: skip
    return _killed(count, folder, random.Random(seed), Repeated(begin, [*begin, "--resume"], "run"))


def full(count: int, folder: Path, seed: int, engine: Path) -> dict[str, Any]:
    """Fill the disk of a report at random writes. Arguments and errors as for `damaged`; `count`: number of full disks."""
    _fields(folder / "in")
    own_system = ["unshare", "--user", "--map-root-user", "--mount"]
    if shutil.which("unshare") is None or subprocess.run([*own_system, "true"], capture_output=True).returncode:
        return {"not tried": "this system gives the command no file system of its own"}
    fullnesses = random.Random(seed)
    for number in range(count):
        place = folder / f"disk{number}"
        place.mkdir()
        inside = [*own_system, sys.executable, "-m", "benchmarks.robustness", "--seed", str(fullnesses.getrandbits(32)),
                  "--on-a-small-disk", str(folder / "in"), str(engine), str(place)]  # fmt: skip
        done = subprocess.run(inside, capture_output=True, text=True)
        _require(done.returncode == 0, f"full disk {number}: {done.stdout}{done.stderr}")
    return {"full disks": count, "torn files": 0, "other results": 0}


def on_a_small_disk(fields: Path, engine: Path, place: Path, drawn: random.Random) -> None:
    """One trial of `full`, in a process that has its own mounts. It ends with status 1 where it fails.

    Args:
        fields: the micrographs.
        engine: the engine.
        place: an empty folder to mount a small file system on.
        drawn: draws its size.
    """
    whole = place.with_name("whole")
    if not whole.is_dir():
        _require(_run([*_segment(fields, engine, whole)]).status == 0, "the whole run failed")
    # File systems in memory take whole pages.
    pages = sum(-(-path.stat().st_size // 4096) for path in whole.rglob("*") if path.is_file())
    size = 4096 * drawn.randrange(2, pages)
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "none", place], check=True)
    command = [*_segment(fields, engine, place / "report")]
    found = _run(command)
    _require(found.status == 2, f"status {found.status} at {size} bytes\n{found.text}")
    _require("the disk is full" in found.text and "Traceback" not in found.text, found.text)
    torn = torn_files(place)
    _require(not torn, f"torn: {torn}")
    left = [path.name for path in place.rglob("*") if is_temporary(path.name)]
    _require(not left, f"left: {left}")
    subprocess.run(["mount", "-o", "remount,size=1g", place], check=True)
    found = _run(command)
    _require(found.status == 0, f"repeated: status {found.status}\n{found.text}")
    _require(content_of(place / "report") == content_of(whole), "another result than that of an uninterrupted run")


@dataclass(frozen=True)
class Repeated:
    """A command that is killed and repeated.

    Attributes:
        first: the command.
        again: the command that continues.
        result: name of the folder that it writes.
    """

    first: Sequence[str]
    again: Sequence[str]
    result: str


def _killed(count: int, folder: Path, moments: random.Random, repeated: Repeated) -> dict[str, Any]:
    """Kill a command `count` times and compare each result that it completes in between."""
    result = folder / repeated.result
    begun = time.monotonic()
    whole = _run(repeated.first)
    seconds = time.monotonic() - begun
    _require(whole.status == 0, f"uninterrupted: status {whole.status}\n{whole.text}")
    wanted = content_of(result)
    shutil.rmtree(result)
    kills = completed = 0
    while kills < count:
        command = repeated.again if (result / "run.yaml").is_file() else repeated.first
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        try:
            text = process.communicate(timeout=moments.uniform(0, seconds))[0]
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGKILL)
            process.communicate()
            kills += 1
            torn = torn_files(result)
            _require(not torn, f"kill {kills}: torn: {torn}")
            continue
        _require(process.returncode == 0, f"after {kills} kills: status {process.returncode}\n{text}")
        completed += _require_equal(result, wanted, kills)
    command = repeated.again if (result / "run.yaml").is_file() else repeated.first
    last = _run(command)
    _require(last.status == 0, f"after {kills} kills: status {last.status}\n{last.text}")
    completed += _require_equal(result, wanted, kills)
    return {"kills": kills, "results": completed, "torn files": 0, "other results": 0}


def _require_equal(result: Path, wanted: dict[str, Any], kills: int) -> int:
    found = content_of(result)
    differing = [name for name in sorted({*found, *wanted}) if found.get(name) != wanted.get(name)]
    _require(not differing, f"after {kills} kills: other than of an uninterrupted run: {differing}")
    shutil.rmtree(result)
    return 1


def torn_files(folder: Path) -> list[str]:
    """Files below a folder that cannot be read to their end. Temporary files do not count."""
    return [
        str(path)
        for path in sorted(folder.rglob("*"))
        if path.is_file() and not is_temporary(path.name) and not _is_whole(path)
    ]


def _is_whole(path: Path) -> bool:
    try:
        match path.suffix:
            case ".json":
                json.loads(path.read_bytes())
            case ".yaml":
                return isinstance(yaml.safe_load(path.read_bytes()), dict)
            case ".png" | ".jpg":
                with Image.open(path) as image:
                    image.load()
            case ".safetensors":
                from safetensors.numpy import load_file

                load_file(path)
            case ".csv":
                return path.read_bytes().endswith(b"\n")
            case ".html":
                return path.read_bytes().rstrip().endswith(b"</html>")
    except (OSError, ValueError, SyntaxError):
        return False
    except Exception as error:
        if "safetensor" in type(error).__name__.lower():
            return False
        raise
    return True


def content_of(folder: Path) -> dict[str, Any]:
    """Every file of a report or a run by name, less times and temporary states. Plots are not compared: they show no more."""
    found: dict[str, Any] = {}
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        is_plot = folder.name == "run" and path.suffix == ".png" and path.parent == folder
        if not path.is_file() or is_temporary(path.name) or "last" in path.parts or is_plot:
            continue
        data = path.read_bytes()
        match path.suffix:
            case ".json":
                found[name] = _without_times(json.loads(data))
            case ".yaml":
                found[name] = _without_times(yaml.safe_load(data))
            case _:
                found[name] = data
    return found


def _without_times(value: Any) -> Any:
    match value:
        case dict():
            return {key: _without_times(item) for key, item in value.items() if key not in _VARIES}
        case list():
            return [_without_times(item) for item in value]
        case _:
            return value


@dataclass(frozen=True)
class Run:
    """A command that has ended: its status, what it printed, and its peak memory in MB (10**6 bytes)."""

    status: int
    text: str
    peak_mb: float


def _run(command: Sequence[str]) -> Run:
    with tempfile.TemporaryFile() as output:
        process = subprocess.Popen(command, stdout=output, stderr=output)
        peak = 0.0
        while process.poll() is None:
            peak = max(peak, _peak_mb(process.pid))
            time.sleep(0.02)
        output.seek(0)
        text = output.read().decode("utf-8", "replace")
    return Run(process.returncode, text, peak)


def _peak_mb(process: int) -> float:
    """Peak memory of a process so far; 0 where the system does not tell. What `wait` tells includes that of the parent."""
    try:
        status = Path("/proc", str(process), "status").read_text(encoding="utf-8")
    except OSError:
        return 0.0
    found = re.search(r"^VmHWM:\s+(\d+) kB", status, re.MULTILINE)
    return int(found[1]) * 1024 / 1e6 if found else 0.0


def _segment(fields: Path, engine: Path, report: Path) -> list[str]:
    return [*_MICROSEG, "segment", str(fields), "--engine", str(engine), "--out", str(report), "--threads", "1"]


def _rows(report: Path) -> dict[str, dict[str, str]]:
    with (report / "fields.csv").open(encoding="utf-8-sig", newline="") as stream:
        return {row["field"]: row for row in csv.DictReader(stream)}


def _fields(folder: Path) -> None:
    """A few synthetic micrographs."""
    from benchmarks.damage import material

    folder.mkdir(parents=True)
    for index in range(_FIELDS):
        grey = np.kron(material(np.random.default_rng(index)), np.ones((3, 3), np.uint8))
        Image.fromarray(grey).save(folder / f"field{index}.png")


def _engine(path: Path) -> Path:
    from benchmarks.random_engine import write_random_engine

    return write_random_engine(path, "tf_efficientnet_lite0", 2, 1000.0, (16, 16, 8, 8, 8))


def _require(is_true: bool, text: str) -> None:
    if not is_true:
        raise TrialError(text)


if __name__ == "__main__":
    main()
