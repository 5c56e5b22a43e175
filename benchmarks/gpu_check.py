"""`deploy/gpu-check`: one command for everything in microseg that needs an NVIDIA GPU.

It trains a small bag (or takes --run), exports it in every precision, builds a plan of every precision for each installed
TensorRT, verifies the plans, measures them beside PyTorch and ONNX Runtime, opens two at once, times a training step and
runs tests/gpu. Each step runs in a separate process: the record keeps the reason of a failure or crash, and the next step
follows. The record, `benchmarks/gpu/CARD.json` and `.md`, is written again after every step. Exit status: 0 all steps
passed, 4 a step failed or no TensorRT supports the card, 2 no GPU (nothing written).
"""

from __future__ import annotations

import argparse
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.util import find_spec
from pathlib import Path
from typing import Any, get_args

from benchmarks.machine import machine, versions
from microseg.core.errors import InputError, MicrosegError
from microseg.core.system.files import write_json, write_text
from microseg.export.tensorrt.plan_profile import ComputeCapability
from microseg.runtime.tensorrt.device import find_gpu

ROOT = Path(__file__).parents[1]
PRECISIONS = ("fp32", "fp16", "int8")
FLAVOURS = ("tensorrt_rtx", "tensorrt")
# The paper's micrographs; at its half size what the README's throughput is measured on.
FIELD_PX = "2048x1433"
LIMIT_S = 1800
_SAMPLE_MS = 100


@dataclass(frozen=True)
class Step:
    """A command in a separate process. needs: steps that must have passed before."""

    name: str
    command: tuple[str, ...]
    needs: tuple[str, ...] = ()
    limit_s: float = LIMIT_S


def main() -> None:
    """Run all steps and write the record."""
    parser = argparse.ArgumentParser(prog="gpu-check", description=__doc__)
    parser.add_argument("--out", type=Path, default=ROOT / "benchmarks" / "gpu", help="folder of the record")
    parser.add_argument("--run", type=Path, help="a finished run, instead of a small one on synthetic micrographs")
    parser.add_argument("--fields", type=Path, help="micrographs that --run has not seen: a domain or a folder")
    parser.add_argument("--work", type=Path, help="folder for engines and plans (default: temporary)")
    parser.add_argument("--seconds", type=float, default=10, help="of each measurement of throughput")
    options = parser.parse_args()
    try:
        if (options.run is None) != (options.fields is None):
            raise InputError("--run and --fields belong together. Remedy: give both or neither.")
        gpu = find_gpu("tensorrt-rtx")
        if gpu is None:
            raise InputError(
                "needs an NVIDIA GPU and its driver, and none is found here. Remedy: run it on the machine to check."
            )
    except MicrosegError as error:
        print(f"gpu-check: {error}", file=sys.stderr)
        raise SystemExit(2) from error
    memory_mb = total_memory_mb()
    flavours = [name for name in FLAVOURS if is_installed(name) and serves(name, gpu.compute_capability)]
    found: dict[str, Any] = {
        "gpu": gpu.name,
        "compute_capability": gpu.compute_capability,
        "cuda_driver": gpu.cuda_driver,
        "memory_mb": memory_mb,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "flavours": flavours,
        "machine": machine(),
        "versions": versions(
            "microseg",
            "torch",
            "onnxruntime-gpu",
            "onnxruntime",
            "tensorrt",
            "tensorrt-rtx-cu13-bindings",
            "cuda-bindings",
        ),
        "steps": absent(flavours, gpu.compute_capability, has_cuda_provider()),
    }
    with tempfile.TemporaryDirectory(prefix="microseg-") as temporary:
        work = (options.work or Path(temporary)).resolve()
        work.mkdir(parents=True, exist_ok=True)
        run, fields = (path.resolve() if path else None for path in (options.run, options.fields))
        for step in steps(work, flavours, memory_mb, run, fields, options.seconds, has_cuda_provider()):
            print(f"{step.name} ...", file=sys.stderr, flush=True)
            found["steps"].append(carry_out(step, found["steps"]))
            write_record(options.out, found)
    print(markdown(found))
    # What this machine is not meant to have is told, and is no failure, unless no plan was built at all.
    raise SystemExit(4 if not flavours or any(step["state"] == "failed" for step in found["steps"]) else 0)


def steps(
    work: Path,
    flavours: Sequence[str],
    memory_mb: int | None,
    run: Path | None,
    fields: Path | None,
    seconds: float,
    cuda_provider: bool,
) -> list[Step]:
    """All steps, in order. cuda_provider: whether ONNX Runtime is installed for the GPU."""
    made: list[Step] = []
    begun: tuple[str, ...] = ()
    if run is None or fields is None:
        run, fields, source = work / "run", work / "unseen", work / "source"
        made = [
            _microseg("synthetic fields", "synth", source, "--fields", 12, "--size", FIELD_PX),
            _microseg("unseen fields", "synth", fields, "--fields", 8, "--seed", 1001, "--size", FIELD_PX),
            _microseg(
                "train", "train", "supervised", source, "--recipe", "synthetic", "--folds", 2, "--out", run,
                needs=("synthetic fields", "unseen fields"),
            ),
        ]  # fmt: skip
        begun = ("train",)
    measured = ("--fields", fields, "--seconds", seconds)
    for precision in PRECISIONS:
        options = ("--precision", precision, "--calibrate", fields, *(["--symmetric"] if precision == "int8" else []))
        made.append(
            _microseg(f"onnx {precision}", "export", run, "--out", work / f"{precision}.onnx", *options, needs=begun)
        )
    for flavour in flavours:
        for precision in PRECISIONS:
            name, onnx = f"{flavour} {precision}", work / f"{precision}.onnx"
            plan = work / f"{flavour}-{precision}.plan"
            profile = ("--profile", profile_for(flavour, memory_mb))
            record = ("--out", plan.with_suffix(".verify.json"))
            made += [
                _microseg(f"plan {name}", "export", onnx, "--out", plan, *profile, needs=(f"onnx {precision}",)),
                _microseg(
                    f"verify {name}", "verify", plan, fields, "--against", onnx, *record, needs=(f"plan {name}",)
                ),
                _measure(f"speed {name}", "engine", plan, *measured, needs=(f"plan {name}",)),
            ]
        pair = (work / f"{flavour}-fp16.plan", work / f"{flavour}-int8.plan")
        needs = (f"plan {flavour} fp16", f"plan {flavour} int8")
        made.append(_measure(f"two plans {flavour}", "together", *pair, *measured, needs=needs))
        segment = ("segment", fields, "--engine", pair[0], "--out", work / f"{flavour}-report")
        made.append(_microseg(f"segment {flavour} fp16", *segment, needs=needs[:1]))
    for precision in ("fp32", "fp16") if cuda_provider else ():
        cuda = ("engine", work / f"{precision}.onnx", "--device", "cuda")
        made.append(_measure(f"speed onnxruntime cuda {precision}", *cuda, *measured, needs=(f"onnx {precision}",)))
    for name, compiled in (("eager", ()), ("compile", ("--compile",))):
        for precision, half in (("fp32", ()), ("fp16", ("--half",))):
            peer = ("torch", run, work / "fp32.onnx", *half, *compiled)
            made.append(_measure(f"speed torch {name} {precision}", *peer, *measured, needs=("onnx fp32",)))
    made.append(_measure("training step", "training"))
    made.append(Step("tests/gpu", (sys.executable, "-m", "pytest", "tests/gpu", "-p", "no:cacheprovider")))
    return made


def _microseg(name: str, *arguments: object, needs: tuple[str, ...] = ()) -> Step:
    return Step(name, (sys.executable, "-m", "microseg", *map(str, arguments)), needs)


def _measure(name: str, *arguments: object, needs: tuple[str, ...] = ()) -> Step:
    return Step(name, (sys.executable, "-m", "benchmarks.gpu_steps", *map(str, arguments)), needs)


def profile_for(flavour: str, memory_mb: int | None) -> str:
    """The shipped plan profile for a card of this much memory."""
    ladder = {
        "tensorrt_rtx": ((7500, "rtx-station"), (0, "rtx-small")),
        "tensorrt": ((39000, "a100"), (22000, "l4"), (0, "t4")),
    }
    return next(name for least, name in ladder[flavour] if (memory_mb or 0) >= least)


def is_installed(flavour: str) -> bool:
    """Whether a flavour of TensorRT can be imported. Does not import it."""
    return any(find_spec(name) is not None for name in (flavour, f"{flavour}_bindings"))


def has_cuda_provider() -> bool:
    """Whether ONNX Runtime is installed for the GPU."""
    if find_spec("onnxruntime") is None:
        return False
    import onnxruntime

    return "CUDAExecutionProvider" in onnxruntime.get_available_providers()


def absent(flavours: Sequence[str], capability: str, cuda_provider: bool) -> list[dict[str, Any]]:
    """One row for each runtime that is not measured, with the reason: flavours of TensorRT, ONNX Runtime's CUDA provider."""
    rows = []
    for name in FLAVOURS:
        if name not in flavours:
            reason = (
                f"has no kernels for compute capability {capability}"
                if is_installed(name)
                else f"is not installed: pip install 'microseg[{name.replace('_', '-')}]'"
            )
            rows.append({"name": f"plans {name}", "command": [], "state": "not run", "reason": reason})
    if not cuda_provider:
        reason = "this ONNX Runtime has no CUDA provider: pip uninstall onnxruntime; pip install 'microseg[gpu]'"
        rows.append({"name": "speed onnxruntime cuda", "command": [], "state": "not run", "reason": reason})
    return rows


def serves(flavour: str, capability: str) -> bool:
    """Whether a flavour of TensorRT has kernels for a card."""
    return flavour == "tensorrt" or capability in get_args(ComputeCapability)


def carry_out(step: Step, before: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Run a step. Returns its state (ok, failed, not run), the reason, seconds, GPU memory, figures and last output."""
    found: dict[str, Any] = {"name": step.name, "command": list(step.command)}
    well = {done["name"] for done in before if done["state"] == "ok"}
    if missing := [name for name in step.needs if name not in well]:
        return found | {"state": "not run", "reason": f"needs {', '.join(missing)}"}
    begun = time.monotonic()
    with gpu_memory() as memory:
        process = subprocess.Popen(
            step.command, cwd=ROOT, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            text=True, encoding="utf-8", errors="replace", start_new_session=True,
        )  # fmt: skip
        try:
            out, err = process.communicate(timeout=step.limit_s)
            reason = _reason(process.returncode, out, err)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.communicate()
            out, reason = "", f"not done after {step.limit_s:g} s"
        except BaseException:
            os.killpg(process.pid, signal.SIGKILL)
            raise
    found |= {"state": "failed" if reason else "ok", "reason": reason, "seconds": time.monotonic() - begun}
    found["gpu_memory_mb"] = max(memory) - memory[0] if memory else None
    last = _last(out)
    try:
        figures = json.loads(last)
    except ValueError:
        figures = None
    return found | ({"figures": figures} if isinstance(figures, dict) else {"told": last})


def _reason(status: int, out: str, err: str) -> str | None:
    if status == 0:
        return None
    if status < 0:
        # A crash says nothing; what it said last may still help.
        return ": ".join(filter(None, (f"ended by {signal.Signals(-status).name}", _last(err))))
    return f"exit {status}: {_last(err) or _last(out) or 'no word'}"


def _last(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1] if lines else ""


def total_memory_mb() -> int | None:
    """Memory of the first card that this process may use, by the driver's tool; None without the tool."""
    try:
        told = subprocess.run(_query("memory.total"), capture_output=True, text=True, check=True).stdout
        return int(told.split()[0])
    except (OSError, subprocess.CalledProcessError, ValueError, IndexError):
        return None


@contextmanager
def gpu_memory() -> Iterator[list[int]]:
    """MB in use on the card while the block runs, sampled from before its start; empty without the driver's tool."""
    samples: list[int] = []
    try:
        watch = subprocess.Popen([*_query("memory.used"), "-lms", str(_SAMPLE_MS)], stdout=subprocess.PIPE, text=True)
    except OSError:
        yield samples
        return
    lines = iter(watch.stdout or ())
    first = next(lines, "").strip()

    def collect() -> None:
        samples.extend(int(line) for line in lines if line.strip().isdigit())

    if first.isdigit():
        samples.append(int(first))
    collector = threading.Thread(target=collect, daemon=True)
    collector.start()
    try:
        yield samples
    finally:
        watch.terminate()
        watch.wait()
        collector.join()


def _query(what: str) -> list[str]:
    card = os.environ.get("CUDA_VISIBLE_DEVICES", "0").partition(",")[0]
    return ["nvidia-smi", "-i", card, f"--query-gpu={what}", "--format=csv,noheader,nounits"]


def write_record(out: Path, found: dict[str, Any]) -> None:
    """CARD.json and CARD.md in `out`."""
    name = re.sub(r"[^a-z0-9]+", "-", found["gpu"].lower()).strip("-")
    write_json(out / f"{name}.json", found)
    write_text(out / f"{name}.md", markdown(found))


def markdown(found: dict[str, Any]) -> str:
    """The record as a table with one row for each step."""
    memory = f", {found['memory_mb']} MB" if found["memory_mb"] else ""
    packages = ", ".join(f"{name} {version}" for name, version in found["versions"].items())
    lines = [
        f"# {found['gpu']}",
        "",
        f"Compute capability {found['compute_capability']}{memory}, driver for CUDA {found['cuda_driver']}, "
        f"{found['created']}. {packages}.",
        "",
        "| step | | s | GPU memory, MB | fields/s | megapixels/s | |",
        "| --- | --- | ---: | ---: | ---: | ---: | --- |",
    ]
    for step in found["steps"]:
        figures = step.get("figures", {})
        cells = [
            step["name"], step["state"], _number(step.get("seconds"), 1), _number(step.get("gpu_memory_mb"), 0),
            _number(figures.get("fields_per_second"), 2), _number(figures.get("megapixels_per_second"), 1),
            step["reason"] or _told(figures) or step.get("told", ""),
        ]  # fmt: skip
        lines.append(f"| {' | '.join(cell.replace('|', '/') for cell in cells)} |")
    return "\n".join(lines) + "\n"


def _number(value: float | None, digits: int) -> str:
    return "" if value is None else f"{value:.{digits}f}"


def _told(figures: dict[str, Any]) -> str:
    if "steps_per_second" in figures:
        return (
            f"{figures['network']}: {figures['steps_per_second']:.2f} steps/s, "
            f"{figures['hours_of_the_paper']:.1f} h for {figures['paper_epochs']} epochs"
        )
    return str(figures.get("provider", ""))


if __name__ == "__main__":
    main()
