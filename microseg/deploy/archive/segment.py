"""`segment` of a field list: one shard, or all of it and then the merge."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from microseg.core.errors import InputError
from microseg.core.storage.folder import Folder
from microseg.core.storage.objects import Objects, place_of, url_of
from microseg.core.storage.storage import Storage
from microseg.deploy.archive.extra import arrow
from microseg.deploy.archive.lists.field_list import is_list
from microseg.deploy.archive.lists.listing import list_fields
from microseg.deploy.segment import SegmentResult, config_of, default_report, report_folder
from microseg.deploy.segment_options import SegmentOptions
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
    place = _place(options)
    if options.ray is not None:
        from microseg.deploy.archive.on_ray.cluster import check_ray

        check_ray(options.ray)
    with _listed(options) as listed:
        return _segment(listed, place, on_total, on_advance, begun)


def _place(options: SegmentOptions) -> Storage:
    """Where results go. Raises InputError."""
    if options.out is not None and url_of(options.out) is not None:
        return place_of(options.out)
    if options.out is None and url_of(options.input) is not None:
        raise InputError("--out: is missing, and a URL has no folder beside it. Remedy: --out FOLDER or URL.")
    return Folder(report_folder(options))


@contextmanager
def _listed(options: SegmentOptions) -> Iterator[SegmentOptions]:
    """The options with a field list as input, which is made or fetched where the input is none on this machine."""
    url = url_of(options.input)
    if url is None and is_list(options.input):
        yield options
        return
    with TemporaryDirectory(prefix="microseg-") as folder:
        path = Path(folder, "fields.parquet")
        if url is not None and is_list(url):
            place, _, name = url.rpartition("/")
            data = Objects(place).read(name)
            if data is None:
                raise InputError(f"{url}: does not exist. Remedy: the list that `microseg list` wrote.")
            path.write_bytes(data)
        else:
            list_fields(options.input, path, options.sections)
        yield replace(options, input=path, sections=None, out=options.out or default_report(options.input))


def _segment(
    options: SegmentOptions,
    storage: Storage,
    on_total: Callable[[int], None],
    on_advance: Callable[[float], None],
    begun: float,
) -> SegmentResult:
    content = _measured(options, storage, on_total, on_advance, begun)
    if options.shard is not None:
        return SegmentResult(Path(storage.label), content, is_shard=True, place=storage.label)
    from microseg.deploy.archive.merging.merge import merge

    return SegmentResult(Path(storage.label), merge(storage, run=content), place=storage.label)


def _measured(
    options: SegmentOptions,
    storage: Storage,
    on_total: Callable[[int], None],
    on_advance: Callable[[float], None],
    begun: float,
) -> dict[str, Any]:
    """What was measured, by this process or on a cluster."""
    if options.ray is not None:
        from microseg.deploy.archive.on_ray.run import measure_on_ray

        return measure_on_ray(options, options.ray, storage, on_total, on_advance, begun)
    file = EngineFile(options.engine)
    config = config_of(options, file)
    with ThreadPoolExecutor(2) as background:
        hashing = background.submit(lambda: file.hashes)
        loaded = begin_loading(background, file, config.runtime_config)
        from microseg.deploy.archive.run import ShardRun

        hashing.result()
        run = ShardRun.prepare(options, config, file.manifest, storage, file.require_intact().sha256)

        def load() -> Engine:
            with file.unchanged():
                return loaded()

        return run.measure(load, on_total, on_advance, begun)
