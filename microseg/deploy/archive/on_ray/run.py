"""`segment FIELDS.parquet --on ray`: Ray Data hands blocks of rows to actors and takes up what a lost node leaves."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from microseg import __version__
from microseg.core.errors import InputError
from microseg.core.schemas.plan import plan_manifest_path
from microseg.core.storage.storage import Storage
from microseg.core.system.processor_count import usable_processors
from microseg.deploy.archive.lists.shards import rows_of
from microseg.deploy.archive.on_ray.blocks import blocks, fields_of_a_block
from microseg.deploy.archive.on_ray.cluster import Room, connected, room_for
from microseg.deploy.archive.on_ray.worker import RESULT, Attempts, BlockResult, RayJob, RayWorker
from microseg.deploy.archive.rows import rows_done
from microseg.deploy.archive.run import ShardRun
from microseg.deploy.segment import config_of
from microseg.deploy.segment_options import RayOptions, SegmentOptions
from microseg.deploy.tuning.profile import SegmentConfig
from microseg.runtime import EngineFile, is_plan

if TYPE_CHECKING:
    import pyarrow

# Blocks that Ray's store holds at once: the rows of about a million fields.
_WINDOW = 1 << 14
# One that computes, and one that waits.
_BLOCKS_OF_AN_ACTOR = 2


def measure_on_ray(
    options: SegmentOptions,
    ray_options: RayOptions,
    storage: Storage,
    on_total: Callable[[int], None],
    on_advance: Callable[[float], None],
    begun: float,
) -> dict[str, Any]:
    """Measure the fields of a list, or of a shard, that have no result yet on a Ray cluster.

    Args:
        options: what the user asks for; its input is a field list.
        ray_options: what the user asks of Ray.
        storage: where results go.
        on_total: gets the number of fields.
        on_advance: gets finished fields.
        begun: start of the run by the monotonic clock, in seconds.

    Returns:
        What the run did, as of a shard.

    Raises:
        InputError: wrong input, or no such cluster (nothing is done); a node that does not fit, or results that cannot be
            written (finished fields are complete).
        MissingExtraError: Ray is not installed.
    """
    if options.threads is not None:
        raise InputError("--threads: an actor has as many as it has processors. Remedy: --cpus-per-actor.")
    file = EngineFile(options.engine)
    with connected(ray_options.address) as ray:
        room = room_for(ray_options, [node["Resources"] for node in ray.nodes() if node["Alive"]])
        config = _config(ray, options, file, room)
        run = ShardRun.prepare(options, config, file.manifest, storage, file.require_intact().sha256)
        chosen = rows_of(run.shard, run.scan.digests, run.scan.sizes)
        done = rows_done(storage, chosen, run.shard)
        total = int(chosen.sum())
        on_total(total)
        run.job.begin(run.job.settings)
        counted = _Counted(resumed=0)
        if not options.measure_changed:
            chosen[list(done)] = False
            counted.resumed = len(done)
            on_advance(len(done))
        engine = ray.put(_engine_files(options.engine))
        attempts = ray.remote(num_cpus=0, max_restarts=-1, max_task_retries=-1)(Attempts).remote()
        job = RayJob(
            job=replace(run.job, engine=options.engine.absolute()),
            info=run.fields.info,
            shard=str(run.shard),
            config=config.runtime_config,
            folder=str(Path.cwd()),
            version=__version__,
            fetch_engine=lambda: ray.get(engine),
            attempt=lambda row: ray.get(attempts.begin.remote(row)),
        )
        tables = run.fields.tables(run.scan, chosen, done)
        cut = blocks(tables, fields_of_a_block(int(chosen.sum()), room.most))
        for result in _results(ray, cut, job, room):
            counted.add(result)
            on_advance(result.fields)
    return {
        "shard": str(run.shard),
        "fields": total,
        "measured": counted.measured,
        "resumed": counted.resumed,
        "failed": [{"field": name, "reason": reason} for name, reason in counted.failed],
        "seconds": round(time.monotonic() - begun, 3),
        "engine_calls": counted.engine_calls,
        "provider": counted.provider,
    }


@dataclass
class _Counted:
    """What all actors did."""

    measured: int = 0
    resumed: int = 0
    failed: list[tuple[str, str]] = field(default_factory=list)
    engine_calls: int = 0
    provider: str | None = None

    def add(self, result: BlockResult) -> None:
        """Take the result of a block. Raises InputError where an actor cannot measure."""
        if result.error is not None:
            raise InputError(result.error)
        self.measured += result.measured
        self.resumed += result.resumed
        self.failed += result.failed
        self.engine_calls += result.engine_calls
        self.provider = self.provider or result.provider


def _config(ray: ModuleType, options: SegmentOptions, file: EngineFile, room: Room) -> SegmentConfig:
    """How an actor runs the engine: with as many threads as it has processors, on its card where it has one."""
    if room.gpus and options.device == "cpu":
        raise InputError(f"--gpus-per-actor {room.gpus:g}: --device cpu uses none. Remedy: leave one of them out.")
    if not room.gpus and (options.device not in (None, "cpu") or file.is_plan):
        raise InputError(f"{options.engine}: computes on a card. Remedy: --gpus-per-actor 1.")
    asked = replace(
        options,
        engine=options.engine.absolute(),
        threads=None if room.gpus else room.cpus,
        device=options.device if room.gpus else "cpu",
        use_profile=False,
    )
    if not room.gpus and room.cpus <= usable_processors():
        return config_of(asked, file)
    # The hardware is a node's: this machine may have no card, or fewer processors.
    remote = ray.remote(num_cpus=room.cpus, num_gpus=room.gpus)(_config_of)
    try:
        found: SegmentConfig = ray.get(remote.remote(asked))
    except ray.exceptions.RayTaskError as error:
        raise InputError(str(error.cause)) from error
    return found


def _config_of(options: SegmentOptions) -> SegmentConfig:
    return config_of(options, EngineFile(options.engine))


def _engine_files(engine: Path) -> dict[str, bytes]:
    """The content of an engine by the names of its files."""
    paths = [engine, plan_manifest_path(engine)] if is_plan(engine) else [engine]
    return {path.name: path.read_bytes() for path in paths}


def _results(ray: ModuleType, cut: Iterator[pyarrow.Table], job: RayJob, room: Room) -> Iterator[BlockResult]:
    """What actors do with the blocks, in the order in which they end. Raises InputError."""
    ray.data.DataContext.get_current().enable_progress_bars = False
    pool = ray.data.ActorPoolStrategy(
        min_size=1,
        max_size=room.most,
        initial_size=room.now,
        max_tasks_in_flight_per_actor=_BLOCKS_OF_AN_ACTOR,
    )
    while window := list(islice(cut, _WINDOW)):
        dataset = ray.data.from_arrow(window).map_batches(
            RayWorker,
            batch_size=None,
            batch_format="pyarrow",
            fn_constructor_args=(job,),
            compute=pool,
            num_cpus=room.cpus,
            num_gpus=room.gpus or None,
        )
        try:
            for batch in dataset.iter_batches(batch_size=None, batch_format="pyarrow", prefetch_batches=0):
                for text in batch.column(RESULT).to_pylist():
                    yield BlockResult(**json.loads(text))
        except ray.exceptions.RayError as error:
            raise InputError(_told(error)) from error


def _told(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    what = lines[-1] if lines else type(error).__name__
    return (
        f"--on ray: the cluster gives up a block of fields ({type(error).__name__}: {what}). Remedy: the same command again, "
        "which keeps finished fields; Ray's log files tell more."
    )
