"""What `microseg segment FIELDS.parquet` spends on its fields: processor time of each stage, bytes, memory.

`python -m benchmarks.archive_probe segment ...` runs that very command with clocks at the seams of its pipeline, and prints one
line of JSON at its end. The clocks are those of the threads: one reads, one calls the engine, one writes results.
"""

from __future__ import annotations

import json
import sys
import threading
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

MARK = "spent:"


class Probe:
    """Clocks of the threads of one run, and what it writes.

    The first field is left out of every time: modules are imported and buffers are made while it is measured.
    """

    def __init__(self) -> None:
        self.written: dict[str, list[int]] = defaultdict(list)
        self.tables: list[dict[str, float]] = []
        self.start_mb = 0.0
        self._clocks: dict[str, int] = {}
        self._threads: dict[int, str] = {}
        self._ended: dict[str, float] = {}
        self._begun: dict[str, list[float]] = defaultdict(list)
        self._tables_in: dict[str, float] = defaultdict(float)
        self._pixels: list[int] = []
        self._after: list[dict[str, float]] = []
        self._first_call = self._start_cpu = self._end = 0.0

    def thread(self, name: str, work: Callable[..., Any]) -> Callable[..., Any]:
        """The work of a thread, whose clock is kept."""

        def timed(*arguments: Any) -> Any:
            self._clocks[name] = time.pthread_getcpuclockid(threading.get_ident())
            self._threads[threading.get_ident()] = name
            try:
                return work(*arguments)
            finally:
                self._ended[name] = time.thread_time()

        return timed

    def each(self, name: str, work: Callable[..., Any]) -> Callable[..., Any]:
        """What a thread does once for each field."""

        def timed(*arguments: Any) -> Any:
            self._begun[name].append(time.thread_time() - self._tables_in[name])
            return work(*arguments)

        return timed

    def passed_on(self, work: Callable[..., Any]) -> Callable[..., Any]:
        """The end of a call of the engine, which computes in the calling thread where there is one stream."""

        def timed(calls: Any) -> Any:
            batch = [item for item in calls._under_way[0].batch if not item.task.error]
            if not batch or calls._under_way[0].answer is None:
                return work(calls)
            if not self._pixels:
                self._first_call, self._start_cpu = time.perf_counter(), time.process_time()
                self.start_mb = _memory_mb("VmRSS:")
            work(calls)
            self._pixels.append(sum(item.pixels.size for item in batch))
            self._after.append(self._now())
            return None

        return timed

    def table(self, work: Callable[..., Any]) -> Callable[..., Any]:
        """The writing of a file of results."""

        def timed(writer: Any) -> None:
            begun, rows = time.thread_time(), len(writer._rows)
            work(writer)
            spent = time.thread_time() - begun
            self._tables_in[self._threads.get(threading.get_ident(), "timer")] += spent
            self.tables.append({"rows": rows, "bytes": self.written["fields"][-1], "cpu_s": spent})

        return timed

    def put(self, work: Callable[..., Any]) -> Callable[..., Any]:
        """A file that appears in the results."""

        def counted(folder: Any, name: str, path: Path) -> None:
            self.written[name.partition("/")[0]].append(path.stat().st_size)
            work(folder, name, path)

        return counted

    def pipeline(self, work: Callable[..., Any]) -> Callable[..., Any]:
        """The whole pipeline."""

        def timed(*arguments: Any) -> Any:
            try:
                return work(*arguments)
            finally:
                self._end = time.perf_counter()

        return timed

    def found(self) -> dict[str, Any]:
        """Processor seconds of a field in reading and writing, of all tiles but the first in the network; bytes and memory."""
        fields = len(self._begun["writing"])
        later = max(1, fields - 1)
        spent = {
            name: (self._ended[name] - self._tables_in[name] - self._begun[name][min(1, fields - 1)]) / later
            for name in ("reading", "writing")
        }
        first, last = self._after[0], self._after[-1]
        network = last["process"] - first["process"]
        network -= sum(last[name] - first[name] for name in ("reading", "writing", "timer"))
        return {
            "fields": fields,
            "reading_s": spent["reading"],
            "writing_s": spent["writing"],
            "network_s": network,
            "network_megapixels": sum(self._pixels[1:]) / 1e6,
            "computed_megapixels": sum(self._pixels) / 1e6 / fields,
            "written_bytes": {name: sum(sizes) / fields for name, sizes in self.written.items() if name != "fields"},
            "tables": self.tables,
            "pipeline_s": self._end - self._first_call,
            "start_cpu_s": self._start_cpu,
            "start_mb": self.start_mb,
            "peak_mb": _memory_mb("VmHWM:"),
        }

    def _now(self) -> dict[str, float]:
        """The clocks of the process and of its threads; those of a table are in the thread that wrote it, or in `timer`."""
        clocks = {name: self._clock(name) for name in ("reading", "writing")}
        return {**clocks, "timer": self._tables_in["timer"], "process": time.process_time()}

    def _clock(self, name: str) -> float:
        try:
            return self._ended[name] if name in self._ended else time.clock_gettime(self._clocks[name])
        except OSError:  # it ended meanwhile
            return self._ended[name]


def _memory_mb(key: str) -> float:
    status = Path("/proc/self/status").read_text(encoding="ascii")
    return float(next(line.split()[1] for line in status.splitlines() if line.startswith(key))) * 1024 / 1e6


def main() -> None:
    """Run the command that the arguments are, and print what it spent."""
    from microseg.cli.main import command_line
    from microseg.core.storage.folder import Folder
    from microseg.deploy.archive.parts import PartWriter
    from microseg.deploy.archive.sink import ArchiveSink
    from microseg.deploy.pipeline.calls import Calls
    from microseg.deploy.pipeline.field_pipeline import FieldPipeline

    probe = Probe()
    for owner, name, wrapped in (
        (FieldPipeline, "run", probe.pipeline),
        (FieldPipeline, "_read", lambda work: probe.thread("reading", work)),
        (FieldPipeline, "_write", lambda work: probe.thread("writing", work)),
        (ArchiveSink, "open", lambda work: probe.each("reading", work)),
        (ArchiveSink, "measure", lambda work: probe.each("writing", work)),
        (Calls, "pass_on", probe.passed_on),
        (PartWriter, "_write", probe.table),
        (Folder, "put", probe.put),
    ):
        setattr(owner, name, wrapped(getattr(owner, name)))
    command_line()(sys.argv[1:], standalone_mode=False)
    print(MARK, json.dumps(probe.found()))


if __name__ == "__main__":
    main()
