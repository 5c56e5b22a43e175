"""The tables of the page on scale, from what `benchmarks.archive --model` wrote; the command prints the same."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from benchmarks.archive_model import costs_from, stages
from benchmarks.documentation.markdown import table

Found = Mapping[str, Any]
Shown = tuple[Sequence[str], list[Sequence[object]]]
_NOT_RUN = "This command has not been run as a whole yet."


def costs(found: Found) -> Shown:
    """What a field costs a worker of one thread, by engine."""
    site = found["site"]
    rows: list[Sequence[object]] = []
    for engine in found["engines"].values():
        cost = costs_from(engine["costs"])
        spent = stages(cost, site["width"], site["height"])
        seconds = (spent.reading, spent.network, spent.writing, spent.processor_s)
        rows.append(
            (engine["what"], *(f"{value:.3f}" for value in seconds), f"{cost.start_s:.1f}", f"{cost.peak_mb:.0f}")
        )
    return ("engine", "reading, s", "network, s", "results, s", "all, s", "start, s", "peak, MB"), rows


def lines(found: Found) -> Shown:
    """The same by the field and by the megapixel, without the network."""
    rows: list[Sequence[object]] = []
    for engine in found["engines"].values():
        cost = costs_from(engine["costs"])
        parts = (cost.reading, cost.writing)
        times = [f"{1e3 * part.fixed:.1f} + {1e3 * part.each:.1f}" for part in parts]
        written = f"{cost.written.fixed / 1e3:.0f} + {cost.written.each / 1e3:.0f}"
        rows.append((engine["what"], times[0], f"{cost.network_s:.2f}", times[1], written))
    header = ("engine", "reading, ms", "network, s per MP", "results, ms", "masks and overlays, kB")
    return header, rows


def tables(found: Found) -> Shown:
    """What lists, tables and requests cost."""
    cost = found["tables"]
    # The long lists that were measured: the model's own, and that of `benchmarks.archive`.
    measured = [each for each in (found["scale"], found.get("archive")) if each]
    rows: list[Sequence[object]] = [
        ("row of the merged table", f"{cost['row_bytes']:.0f} bytes"),
        ("small picture of a field that has one", f"{cost['picture_bytes'] / 1e3:.0f} kB"),
        ("writing 1,000 rows of a shard's table", f"{1e6 * cost['part_row_s']:.0f} ms"),
        ("`list`, 1,000 files", f"{1e3 * cost['list_row_s']:.2f} s"),
        *(
            (
                f"a shard begins, list of {each['rows']:,} rows",
                f"{each['begin_seconds']:.1f} s, {each['begin_mb']:.0f} MB",
            )
            for each in measured
        ),
        *(
            (f"`merge` of {each['rows']:,} rows", f"{each['merge_rows_seconds']:.0f} s, {each['merge_rows_mb']:.0f} MB")
            for each in measured
        ),
        (
            "requests to object storage of a field, without tables",
            f"{cost['requests_read']:.0f} to read, {cost['requests_written']:.0f} to write",
        ),
        ("requests of a shard when it starts", f"{cost['requests_of_start']:.0f}"),
    ]
    return ("what", "cost"), rows


def runs(found: Found) -> Shown:
    """Predicted beside measured rates."""
    rows: list[Sequence[object]] = [
        (
            run["what"],
            run["workers"],
            run["fields"],
            f"{run['predicted_fields_per_second']:.3f}",
            f"{run['measured_fields_per_second']:.3f}",
            f"{100 * run['difference']:+.1f} %",
            run["stated"] or "within",
        )
        for run in found["runs"]
    ]
    header = ("engine", "workers", "fields", "predicted, 1/s", "measured, 1/s", "difference", "of 15 %")
    return header, rows


def hours(found: Found) -> Shown:
    """Rate of a node and hours of the nodes, by engine."""
    rows: list[Sequence[object]] = []
    for name, plans in found["models"].items():
        first = plans[0]
        rows.append(
            (
                found["engines"][name]["what"],
                f"{first['fields_per_second_of_a_node']:.0f}",
                *(f"{_short(each['node_hours'])} / {_days(each['hours'])}" for each in plans),
                first["bottleneck"],
                f"{first['most_nodes']:.0f}",
            )
        )
    millions = (f"{each['fields'] // 1_000_000:,} million" for each in next(iter(found["models"].values())))
    return ("engine", "fields/s of a node", *millions, "limited by", "nodes that storage feeds"), rows


def sizes(found: Found) -> Shown:
    """Requests, bytes and hours of `list` and `merge`, by the number of fields, with the last of the engines."""
    *_, plans = found["models"].values()
    rows: list[Sequence[object]] = [
        ("field lists", *(f"{each['lists']:,}" for each in plans)),
        ("shards", *(f"{each['shards']:,}" for each in plans)),
        ("requests to object storage, millions", *(f"{each['requests'] / 1e6:,.0f}" for each in plans)),
        ("images read", *(_bytes(each["read_bytes"]) for each in plans)),
        ("masks and overlays", *(_bytes(each["mask_bytes"]) for each in plans)),
        ("tables", *(_bytes(each["table_bytes"]) for each in plans)),
        ("tables, written again while shards run", *(_bytes(each["rewritten_bytes"]) for each in plans)),
        ("`list`, hours of one process on a file system", *(f"{each['list_hours']:.1f}" for each in plans)),
        ("`merge`, hours of one core in all", *(f"{each['merge_hours']:.1f}" for each in plans)),
        ("memory of a node with a worker on each core, GB", *(f"{each['node_memory_gb']:.0f}" for each in plans)),
    ]
    return ("what", *(f"{each['fields'] // 1_000_000:,} million" for each in plans)), rows


def kills(found: Found) -> str:
    """What kills and faults lose, and what shards and Ray cost beside one process; without a file it says so."""
    if not found:
        return _NOT_RUN
    killed = f"{found['ray_kills']} killed workers, 1 killed node"
    rows = (
        ("two shards", f"{found['kills']} killed processes", "shards", f"{100 * found['overhead_shards']:+.1f} %"),
        ("Ray, two nodes", killed, "ray", f"{100 * found['overhead_ray']:+.1f} %"),
        ("S3, two shards", f"{found['s3_faults']} errors, time-outs and cut answers", "s3", ""),
    )
    shares = (
        (what, disturbed, f"{found[f'{key}_lost']:.0%}", f"{found[f'{key}_different']:.0%}", overhead or "not measured")
        for what, disturbed, key, overhead in rows
    )
    header = (
        f"{found['fields']:,} fields",
        "disturbed by",
        "lost",
        "different",
        "time beside one process, undisturbed",
    )
    return table(header, list(shares))


SHOWN = {
    "archive-costs": costs, "archive-lines": lines, "archive-tables": tables, "archive-runs": runs, "archive-hours": hours,
    "archive-sizes": sizes,
}  # fmt: skip


def shown(found: Found, name: str) -> str:
    """A table of the page; without a file it says so."""
    return table(*SHOWN[name](found)) if found else _NOT_RUN


def _short(value: float) -> str:
    return f"{value:.1f}" if value < 10 else f"{value:,.0f}"


def _days(hours_: float) -> str:
    return f"{hours_:.1f} h" if hours_ < 48 else f"{hours_ / 24:,.1f} d"


def _bytes(value: float) -> str:
    return f"{value / 1e9:,.0f} GB" if value < 1e13 else f"{value / 1e12:,.0f} TB"
