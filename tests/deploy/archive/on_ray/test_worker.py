"""What an actor does, without Ray: blocks of rows in, rows of results out, and why it cannot."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from microseg import __version__
from microseg.core.errors import InputError
from microseg.core.storage.folder import Folder
from microseg.deploy.archive.merging.merge import merge
from microseg.deploy.archive.on_ray import worker
from microseg.deploy.archive.on_ray.blocks import blocks, fields_of_a_block
from microseg.deploy.archive.on_ray.cluster import Room, check_ray, connected, room_for
from microseg.deploy.archive.on_ray.worker import Attempts, BlockResult, RayJob, RayWorker
from microseg.deploy.archive.run import ShardRun
from microseg.deploy.segment import config_of, segment
from microseg.deploy.segment_options import RayOptions, SegmentOptions
from microseg.runtime import EngineFile
from tests.chain import microseg

Begun = tuple[RayJob, pa.Table]


@pytest.fixture
def begun(listed: Path, tiny_engine: Path, tmp_path: Path) -> Callable[..., Begun]:
    """A function that begins results and returns what the driver tells an actor, and all rows of the list."""

    def make(engine: Path = tiny_engine, attempt: Callable[[int], int] = lambda row: 1) -> Begun:
        options = SegmentOptions(listed, engine, tmp_path / "out", threads=1)
        file = EngineFile(engine)
        config = config_of(options, file)
        storage = Folder(tmp_path / "out")
        run = ShardRun.prepare(options, config, file.manifest, storage, file.require_intact().sha256)
        run.job.begin(run.job.settings)
        content = {engine.name: engine.read_bytes()}
        rows = np.ones(run.fields.rows, np.bool_)
        job = RayJob(
            job=run.job,
            info=run.fields.info,
            shard="1/1",
            config=config.runtime_config,
            folder=str(Path.cwd()),
            version=__version__,
            fetch_engine=lambda: content,
            attempt=attempt,
        )
        return job, pa.concat_tables(run.fields.tables(run.scan, rows, frozenset()))

    return make


def measured(actor: RayWorker, table: pa.Table) -> BlockResult:
    (text,) = actor(table).column("result").to_pylist()
    return BlockResult(**json.loads(text))


def same(summary: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in summary.items() if key not in ("created", "run", "engine_calls", "input")}


def test_blocks_by_two_actors_equal_one_process(
    begun: Callable[..., Begun], archive: Path, tiny_engine: Path, tmp_path: Path
) -> None:
    job, rows = begun()
    workers = RayWorker(job), RayWorker(job)
    done = [measured(workers[index % 2], block) for index, block in enumerate(blocks([rows], 2))]
    done.append(measured(workers[1], rows.slice(0, 2)))  # a block whose actor was lost, once more
    assert [each.measured for each in done] == [2, 2, 2, 2] and not any(each.failed or each.error for each in done)
    assert sum(each.engine_calls for each in done) >= 4 and done[0].provider
    one = segment(SegmentOptions(archive, tiny_engine, tmp_path / "one")).summary
    assert same(merge(Folder(tmp_path / "out"))) == same(one)


def test_a_field_that_kills_processes_fails_and_the_others_do_not(begun: Callable[..., Begun], tmp_path: Path) -> None:
    attempts = Attempts()
    job, rows = begun(attempt=attempts.begin)
    for _ in range(3):
        attempts.begin(-1)  # actors died in this block
    attempts.begin(2)  # and in this field of it, when each was measured alone
    assert not measured(RayWorker(job), rows.slice(3)).failed
    first = measured(RayWorker(job), rows.slice(0, 3))
    assert first.measured == 3 and not first.failed
    attempts.begin(2)
    second = measured(RayWorker(job), rows.slice(0, 3))
    assert second.measured == 2
    ((name, reason),) = second.failed
    assert name == rows["field"][2].as_py() and "3 processes died" in reason
    table = pd.read_parquet(tmp_path / "out" / "fields")
    assert set(table[table["status"] == "failed"]["field"]) == {name}


def test_a_node_without_the_engine_gets_it(begun: Callable[..., Begun], tiny_engine: Path, tmp_path: Path) -> None:
    engine = tmp_path / "copy.onnx"
    engine.write_bytes(tiny_engine.read_bytes())
    job, rows = begun(engine)
    engine.write_bytes(b"another")
    assert measured(RayWorker(job), rows).measured == rows.num_rows


def test_a_node_that_does_not_fit_says_why(
    begun: Callable[..., Begun], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker, "_LOOK_S", 0.0)
    job, rows = begun()
    other = measured(RayWorker(replace(job, version="0.0.1")), rows)
    assert other.error is not None and "and 0.0.1 where the command runs" in other.error
    for path in (tmp_path / "out").iterdir():
        path.rename(path.with_name(f"{path.name}.gone"))
    unseen = measured(RayWorker(job), rows)
    assert unseen.error is not None and "a node of the cluster does not see" in unseen.error


def test_blocks_are_of_few_bytes_and_small() -> None:
    table = pa.table({"size": pa.array([200 << 20, 100 << 20, None, 1, 1, 1, 300 << 20], pa.int64())})
    assert [block.num_rows for block in blocks([table], 4)] == [1, 4, 1, 1]
    assert pa.concat_tables(blocks([table, table], 3)).num_rows == 14
    assert [fields_of_a_block(*each) for each in ((10**6, 8), (320, 2), (3, 4))] == [64, 5, 1]


def test_the_room_of_a_cluster() -> None:
    nodes = [{"CPU": 8.0}, {"CPU": 7.0, "GPU": 2.0}, {"memory": 1.0}]
    assert room_for(RayOptions(), nodes) == Room(4, 0.0, 3, 3)
    assert room_for(RayOptions(cpus_per_actor=1, actors=40), nodes) == Room(1, 0.0, 15, 40)
    assert room_for(RayOptions(cpus_per_actor=2, gpus_per_actor=0.5), nodes) == Room(2, 0.5, 3, 3)
    assert room_for(RayOptions(), [{"CPU": 2.0}]) == Room(2, 0.0, 1, 1)
    with pytest.raises(InputError, match="no node of the cluster has 9 CPU"):
        room_for(RayOptions(cpus_per_actor=9), nodes)
    with pytest.raises(InputError, match="and 4 GPU"):
        room_for(RayOptions(gpus_per_actor=4), nodes)


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (("--on", "spark"), "--on spark: is unknown"),
        (("--actors", "2"), "--actors: needs --on ray"),
        (("--on", "ray", "--actors", "0"), "--actors 0: is out of range"),
        (("--on", "ray", "--gpus-per-actor", "1.5"), "whole cards"),
        (("--on", "ray", "--address", "ray://head:10001"), "ray job submit"),
        (("--on", "ray", "--threads", "2"), "--cpus-per-actor"),
        (("--on", "ray", "--address", "nowhere"), "is no address of a cluster"),
        (("--on", "ray", "--address", "127.0.0.1:1"), "no cluster answers"),
    ],
)
def test_bad_options(listed: Path, tiny_engine: Path, tmp_path: Path, options: tuple[str, ...], told: str) -> None:
    pytest.importorskip("ray")
    done = microseg("segment", listed, "--engine", tiny_engine, "--out", tmp_path / "out", *options)
    assert done.status == 2 and told in done.err and not (tmp_path / "out").exists()


def test_ray_needs_a_list(archive: Path, tiny_engine: Path) -> None:
    done = microseg("segment", archive, "--engine", tiny_engine, "--on", "ray")
    assert done.status == 2 and "--on ray: needs a field list" in done.err


def test_a_cluster_of_another_version_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    ray = pytest.importorskip("ray")

    def refuse(**options: Any) -> None:
        raise RuntimeError("Version mismatch: The cluster was started with:\n    Ray: 2.9.0\n    Python: 3.11.2")

    monkeypatch.setattr(ray, "init", refuse)
    with (
        pytest.raises(
            InputError, match=r"--on ray: Ray does not connect \(Version mismatch.*Ray: 2.9.0 Python: 3.11.2\)"
        ),
        connected(None),
    ):
        pass


def test_without_ray_its_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "ray", None)
    with pytest.raises(Exception, match=r"microseg\[ray\]"):
        check_ray(RayOptions())
    with pytest.raises(Exception, match=r"microseg\[ray\]"), connected(None):
        pass
