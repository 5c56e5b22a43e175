"""`segment` of a field list: one shard, or all of it and then the merge."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from microseg.core.storage.folder import Folder
from microseg.deploy.archive.extra import arrow
from microseg.deploy.segment import SegmentResult, report_folder
from microseg.deploy.segment_options import SegmentOptions
from microseg.deploy.tuning.profile import segment_config
from microseg.runtime import Engine, EngineFile, begin_loading


def segment_archive(
    options: SegmentOptions,
    on_total: Callable[[int], None],
    on_advance: Callable[[float], None],
    begun: float,
) -> SegmentResult:
    """Measure a shard of a field list, or the whole list and merge it.

    Args:
        options: what the user asks for; its input is a field list.
        on_total: gets the number of fields before the first one.
        on_advance: gets fractions of a field.
        begun: start of the run by the monotonic clock, in seconds.

    Raises:
        InputError: wrong input, engine or settings, or a place that cannot be written.
        MissingExtraError: pyarrow or the runtime is not installed.
    """
    arrow()
    storage = Folder(report_folder(options))
    file = EngineFile(options.engine)
    config = segment_config(
        file,
        runtime=options.runtime,
        device=options.device,
        threads=options.threads,
        batch=options.batch,
        use_profile=options.use_profile,
        memory_mb=options.memory_mb,
    )
    with ThreadPoolExecutor(2) as background:
        hashing = background.submit(lambda: file.hashes)
        loaded = begin_loading(background, file, config.runtime_config)
        from microseg.deploy.archive.run import ShardRun

        hashing.result()
        run = ShardRun.prepare(options, config, file.manifest, storage, file.require_intact().sha256)

        def load() -> Engine:
            with file.unchanged():
                return loaded()

        content = run.measure(load, on_total, on_advance, begun)
    if options.shard is not None:
        return SegmentResult(storage.path, content, is_shard=True)
    from microseg.deploy.archive.merging.merge import merge

    return SegmentResult(storage.path, merge(storage, run=content))
