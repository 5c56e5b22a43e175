"""The tables of figures in the pages, from the files of `benchmarks/results`.

A page marks the place of a table with two comments; what is between them is generated:

    <!-- figures: NAME -->
    <!-- end of figures -->
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.documentation import figures_archive
from benchmarks.documentation.figures_adaptation import (
    adaptation_bags,
    adaptation_criteria,
    adaptation_fractions,
    adaptation_in_short,
    adaptation_methods,
    adaptation_verdicts,
)
from benchmarks.documentation.figures_any_material import any_material, any_material_few
from benchmarks.documentation.figures_uncertainty import alarm, audits, claims, coverage, coverage_in_short
from benchmarks.documentation.markdown import interval, table

RESULTS = Path(__file__).parents[1] / "results"
_PLACE = re.compile(r"(<!-- figures: ([\w-]+) -->\n).*?(<!-- end of figures -->)", re.DOTALL)
_TITLES = {
    "coating-050317-3": "another specimen",
    "superalloy-test": "its test set, another spot",
}
_ENGINES = {
    "f32": "`segment`, one network, float32",
    "int8": "`segment`, one network, INT8 (OpenVINO)",
    "bag": "`segment`, bag of five, float32",
    "bag_int8": "`segment`, bag of five, INT8",
    "student": "`segment`, student of the bag, float32",
    "student_int8": "`segment`, student of the bag, INT8",
}
_PEERS = {
    "naive": "PyTorch, a loop over tiles",
    "monai": "MONAI, sliding window",
    "toolbelt": "pytorch_toolbelt",
    "ort_tiles": "ONNX Runtime, four tiles of 640 px",
}


def read(name: str) -> Any:
    """The content of `benchmarks/results/NAME.json`."""
    return json.loads((RESULTS / f"{name}.json").read_text(encoding="utf-8"))


def read_rows(name: str) -> Any:
    """The same of a file that collects rows: empty as long as there are none."""
    return read(name) if (RESULTS / f"{name}.json").is_file() else {}


def marked_pages() -> list[Path]:
    """The files of the repository that hold tables of figures."""
    root = RESULTS.parents[1]
    docs = root / "microseg" / "docs"
    return [root / "README.md", docs / "scale.md", *sorted((docs / "figures").glob("*.md"))]


def with_tables(text: str) -> str:
    """A page's text with the tables that it marks.

    Raises:
        KeyError: The page marks a table that does not exist.
    """
    return _PLACE.sub(lambda place: f"{place[1]}{TABLES[place[2]]()}\n{place[3]}", text)


def real_data() -> str:
    """Bags on real micrographs that no fold has seen."""
    rows = []
    for name in ("superalloy", "coating"):
        case = read(f"real_data-{name}")["cases"][name]
        for test, result in case["tests"].items():
            phases = ", ".join(f"{phase} {value:.3f}" for phase, value in result["iou"].items())
            errors = ", ".join(f"{100 * item['error']:.2f}" for item in result["fractions"].values())
            folds = case["cv"]["folds"]
            rows.append(
                (
                    f"`{name}` ({len(case['cv']['fields'])} fields)",
                    f"{_TITLES[test]} ({len(result['fields'])} fields)",
                    f"{result['miou']:.3f} {interval(result['spread']['miou'])}",
                    f"{result['baseline']['miou']:.3f}",
                    phases,
                    errors,
                    f"{folds['miou_mean']:.3f} ± {folds['miou_std']:.3f}",
                )
            )
    header = ("trained on", "scored on", "mIoU [95 %]", "multi-Otsu", "IoU of each phase",
              "fraction error of a field, points", "cross-validation, folds")  # fmt: skip
    return table(header, rows)


def synthetic() -> str:
    """A bag trained on synthetic S, scored on the four synthetic domains."""
    rows = []
    for name, item in read("synthetic")["domains"].items():
        folds, fraction = item["evaluation"]["folds"], item["evaluation"]["fractions"]["lath-bainite"]
        closed = item["gap_closed_by_matching"]
        rows.append(
            (
                name.upper(),
                f"{item['miou']:.3f}",
                f"{folds['miou_mean']:.3f} ± {folds['miou_std']:.3f}",
                f"{100 * fraction['true']:.1f} / {100 * fraction['predicted']:.1f}",
                "" if closed is None else f"{item['matched_miou']:.3f} ({100 * closed:.0f} %)",
                f"{item['own_miou']:.3f}",
                f"{item['threshold_miou']:.3f}",
            )
        )
    header = ("domain", "mIoU, bag", "mIoU, folds", "lath bainite, %, true / found",
              "grey values matched (share of the gap)", "own labels", "threshold")  # fmt: skip
    return table(header, rows)


def choice() -> str:
    """Variants of the recipes on the held-out fields of one fold."""
    rows = []
    for recipe in ("superalloy", "coating"):
        for item in read(f"choice-{recipe}"):
            settings = f"`{' '.join(item['overrides'])}`" if item["overrides"] else ""
            (fold,) = item["folds"]
            rows.append((recipe, item["variant"], settings, item["steps"], f"{fold['miou']:.3f}"))
    return table(("recipe", "variant", "`--set`", "steps", "mIoU"), rows)


def throughput(name: str) -> str:
    """Seconds per field of `segment` and its peers, and ratios of what ran side by side."""
    found = read(name)
    seconds = found["seconds_per_field"]
    ratios = {
        "f32": f"{found['ratio_f32_to_torch_peer']:.2f} (peer in PyTorch), {found['ratio_f32_to_ort_tiles']:.2f} (four tiles)",
        "int8": f"{found['ratio_int8_to_torch_peer']:.1f} (peer in PyTorch)",
        "student": f"{found['ratio_distilled_to_bag']:.2f} (its bag)",
        "student_int8": f"{found['ratio_distilled_int8_to_bag_int8']:.2f} (its bag), "
        f"{found['ratio_distilled_int8_to_peer_bag']:.1f} (peer in PyTorch with the bag)",
    }
    peers = [(_PEERS[peer], _seconds(seconds[peer]), "") for peer in _PEERS if peer in seconds]
    ours = [(what, _seconds(seconds[side]), ratios.get(side, "")) for side, what in _ENGINES.items()]
    outside = {
        "outside_network_share": "outside the network, float32, 40 fields",
        "outside_network_share_many_fields": "outside the network, float32, 200 fields",
        "outside_network_share_int8": "outside the network, INT8, 40 fields",
    }
    other = [(text, f"{100 * found[key]:.1f} %", "") for key, text in outside.items() if key in found]
    other += [
        ("from the command to the first inference", f"{found['start_to_first_inference_seconds']:.2f} s", ""),
        ("two threads beside one", f"{2 * found['scaling_two_threads']:.2f} times", ""),
    ]
    return table(("what", "s per field", "times faster than"), [*peers, *ours, *other])


def _seconds(value: float) -> str:
    return f"{value:.2f}" if value >= 1 else f"{value:.3f}"


def speed_in_short() -> str:
    """The short table of the README."""
    found = read("throughput")
    seconds = found["seconds_per_field"]
    rows = [
        ("PyTorch, loop over tiles", _seconds(seconds["naive"])),
        ("MONAI, sliding window", _seconds(seconds["monai"])),
        ("microseg, float32", _seconds(seconds["f32"])),
        ("microseg, INT8", _seconds(seconds["int8"])),
    ]
    return table(("one network, field of 1024 x 717 px, 2 cores", "s per field"), rows)


def accuracy_in_short() -> str:
    """The short table of accuracy in the README."""
    rows = []
    for name in ("superalloy", "coating"):
        case = read(f"real_data-{name}")["cases"][name]
        (result,) = case["tests"].values()
        errors = max(item["error"] for item in result["fractions"].values())
        rows.append(
            (
                f"`{name}`, {len(case['cv']['fields'])} labelled fields",
                f"{result['miou']:.3f} {interval(result['spread']['miou'])}",
                f"{result['baseline']['miou']:.3f}",
                f"{100 * errors:.1f}",
            )
        )
    header = ("bag of five, unseen fields", "mIoU [95 %]", "multi-Otsu", "fraction error, points")
    return table(header, rows)


def outside() -> str:
    """The share of the time outside the network, in many turns."""
    found = read("outside")
    low, high = found["quartiles"]
    share = f"{100 * found['outside_network_share']:.1f} % [{100 * low:.1f}, {100 * high:.1f}]"
    header = ("fields", "turns", "share of the time outside the network, median [quartiles]")
    return table(header, [(found["fields"], len(found["shares"]), share)])


def bagging() -> str:
    """Folds as branches against one pass of grouped convolutions."""
    titles = {"onnxruntime": "ONNX Runtime", "openvino": "OpenVINO"}
    rows = [
        (titles[name], f"{item['branches']:.2f}", f"{item['stacked']:.2f}", f"{item['ratio']:.2f}")
        for name, item in read("bagging")["runtimes"].items()
    ]
    return table(("runtime", "branches, s", "grouped convolutions, s", "ratio"), rows)


def training() -> str:
    """A training step beside a plain loop, and an adversarial step beside the published sequence."""
    step, adversarial = read("training_step"), read("uda_step")
    rows = [
        ("`train supervised`", "a plain PyTorch loop", f"{step['ratio_to_plain_loop']:.3f}"),
        ("`train uda`, AdaptSegNet", "a plain script of the published sequence",
         f"{adversarial['ratio_to_published_structure']:.3f}"),
    ]  # fmt: skip
    return table(("step of", "beside", "time, ratio"), rows)


def loader() -> str:
    """Training tiles per second of one core."""
    rows = [(kind, f"{rate:.0f}") for kind, rate in read("loader")["median"].items()]
    return table(("augmentation", "tiles of 636 px per second and core"), rows)


def memory() -> str:
    """Peak memory of `segment`."""
    rows = [
        (what, f"{run['peak_mb']:.0f}", f"{run['seconds']:.0f}", run["engine_calls"])
        for name in ("memory", "memory-1000")
        for what, run in read(name)["runs"].items()
    ]
    return table(("what", "peak, MB", "s", "calls of the engine"), rows)


def station_sizes() -> str:
    """Disk that the packages of a station take, by package of more than 1 MB."""
    found = read("station-sizes")
    large = {name: size for name, size in found["package_megabytes"].items() if size >= 1}
    rest = found["megabytes"] - sum(large.values())
    rows = [*large.items(), ("others", rest), ("**total**", found["megabytes"])]
    return table(("package", "MB"), [(name, f"{size:.0f}") for name, size in rows])


def precision() -> str:
    """Largest difference of a field between a reduced engine and float32 PyTorch."""
    rows = []
    for name in ("precision", "precision-180d"):
        for bag, case in read(name)["cases"].items():
            title = f"{bag}, one detector side" if name == "precision-180d" else bag
            for kind, engine in case["engines"].items():
                kept = ", ".join(layer["layer"] for layer in engine["float32_layers"]) or "input, output"
                for runtime, found in engine["tested"].items():
                    points = ", ".join(
                        f"{phase} {value:.3f} ({found['limits_points'][phase]:.3f})"
                        for phase, value in found["points"].items()
                    )
                    labels = f"{100 * found['label_disagreement']:.3f} %"
                    rows.append((title, kind, runtime, points, labels, kept))
    header = ("bag", "precision", "runtime", "each phase, points (limit)", "labels", "float32 layers")
    return table(header, rows)


def distillation() -> str:
    """A student beside its bag, on fields that neither has seen."""
    rows = []
    for name in ("distill", "distill-int8"):
        for bag, case in read(name)["cases"].items():
            title = f"{bag}, {case['precision']} ({len(case['fields'])} fields)"
            differences = ", ".join(
                f"{phase} {item['mean']:+.2f} ({item['largest']:.2f})"
                for phase, item in case["difference_points"].items()
            )
            spreads = ", ".join(
                f"{phase} {item['bag']:.2f} / {item['student']:.2f}" for phase, item in case["spread_points"].items()
            )
            disputed = " / ".join(f"{100 * case['disputed_pixels'][who]:.1f}" for who in ("bag", "student"))
            rows.append(
                (
                    title,
                    f"{case['bag']['miou']:.3f} / {case['student']['miou']:.3f}",
                    differences,
                    spreads,
                    disputed,
                    f"{case['ratio_of_seconds']:.2f}",
                )
            )
    header = ("bag", "mIoU, bag / student", "fraction, student - bag, points, mean (largest)",
              "spread of the folds, points, bag / student", "pixels on which folds differ, %, bag / student",
              "times faster")  # fmt: skip
    return table(header, rows)


def augmentation() -> str:
    """The extended pipeline beside none on the superalloy."""
    rows = []
    for case, item in read("augmentation")["cases"].items():
        low, high = (100 * value for value in item["interval"])
        rows.append(
            (
                case,
                len(item["fields"]),
                f"{item['miou']['none']:.3f}",
                f"{item['miou']['extended']:.3f}",
                f"{100 * item['difference']:+.1f} [{low:+.1f}, {high:+.1f}]",
                ", ".join(f"{100 * value:+.1f}" for value in item["by_seed"]),
            )
        )
    header = ("trained -> scored", "fields", "none", "extended", "difference, points [95 %]", "by seed")
    return table(header, rows)


def _archive(name: str) -> str:
    found = read_rows("archive-model")
    return figures_archive.shown({**found, "archive": read_rows("archive")} if found else found, name)


TABLES: dict[str, Callable[[], str]] = {
    "real-data": real_data,
    "accuracy-in-short": accuracy_in_short,
    "synthetic": synthetic,
    "choice": choice,
    "throughput": lambda: throughput("throughput"),
    "throughput-zen5": lambda: throughput("throughput-zen5"),
    "throughput-amx": lambda: throughput("throughput-amx"),
    "throughput-avx2": lambda: throughput("throughput-avx2"),
    "speed-in-short": speed_in_short,
    "outside": outside,
    "bagging": bagging,
    "training": training,
    "loader": loader,
    "memory": memory,
    "station-sizes": station_sizes,
    "precision": precision,
    "distillation": distillation,
    "augmentation": augmentation,
    "any-material": lambda: any_material(read_rows("any_material")),
    "any-material-few": lambda: any_material_few(read_rows("any_material")),
    "coverage-in-short": lambda: coverage_in_short(read_rows("coverage")),
    "coverage-home": lambda: coverage(read_rows("coverage"), "home"),
    "coverage-validated": lambda: coverage(read_rows("coverage"), "validated"),
    "claims": lambda: claims(read_rows("coverage")),
    "audits": lambda: audits(read_rows("audit")),
    "archive-kills": lambda: figures_archive.kills(read_rows("archive")),
    **{name: partial(_archive, name) for name in figures_archive.SHOWN},
    "alarm": lambda: alarm(read_rows("alarm")),
    "adaptation-in-short": lambda: adaptation_in_short(read("uda")["rows"]),
    "adaptation-bags": lambda: adaptation_bags(read("uda")["rows"]),
    "adaptation-methods": lambda: adaptation_methods(read("uda-methods")["rows"]),
    "adaptation-criteria": lambda: adaptation_criteria(read("uda")["rows"], read("uda-methods")["rows"]),
    "adaptation-fractions": lambda: adaptation_fractions(read("uda")["rows"]),
    "adaptation-verdicts": lambda: adaptation_verdicts(read("uda")["rows"]),
}
