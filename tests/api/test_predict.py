"""`load_engine` and what it predicts: the same as `segment`, in memory."""

from __future__ import annotations

import gc
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image

import microseg
from microseg.core.errors import FieldError, InputError
from microseg.core.schemas.preparation import Crop, DomainEntry, Grid, Preparation
from microseg.deploy.inference.loaded_engine import LoadedEngine
from microseg.deploy.segment import segment
from microseg.deploy.segment_options import SegmentOptions
from microseg.runtime.onnx_engine import OnnxEngine
from tests.deploy.conftest import micrograph
from tests.deploy.test_segment import mask_of, rows_of
from tests.engines import write_threshold_engine


@pytest.fixture
def engine(tiny_engine: Path) -> Iterator[LoadedEngine]:
    with microseg.load_engine(tiny_engine) as opened:
        yield opened


_DTYPES = {
    "uint8": lambda grey: grey,
    "uint16": lambda grey: grey.astype(np.uint16) * 257,
    "12 bits": lambda grey: grey.astype(np.uint16) * 16,
    "int16": lambda grey: grey.astype(np.int16) * 100,
    "float32": lambda grey: grey.astype(np.float32) / 255,
    "float64": lambda grey: grey.astype(np.float64) * 3.7,
    "big endian": lambda grey: (grey.astype(np.uint16) * 200).astype(">u2"),
}


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    height=st.integers(40, 210),
    width=st.integers(40, 210),
    dtype=st.sampled_from(sorted(_DTYPES)),
    scale=st.sampled_from([1.0, 0.5, 0.37, 1.6]),
    crop=st.sampled_from([{}, {"bottom_px": 9}, {"top_px": 3, "left_px": 5, "right_px": 2}]),
    invert=st.sampled_from([None, True, False]),
    memory_mb=st.sampled_from([None, 456]),
    seed=st.integers(0, 99),
)
def test_a_prediction_of_an_array_equals_segment_of_its_file(
    tmp_path_factory: pytest.TempPathFactory,
    height: int,
    width: int,
    dtype: str,
    scale: float,
    crop: dict[str, int],
    invert: bool | None,
    memory_mb: int | None,
    seed: int,
) -> None:
    base = tmp_path_factory.mktemp("same")
    path = write_threshold_engine(base / "e.onnx", grid=Grid(scale=scale), bytes_per_pixel=1000)
    image = _DTYPES[dtype](micrograph(height, width, seed))
    (base / "in").mkdir()
    tifffile.imwrite(base / "in" / "a.tif", image)
    sides = ", ".join(f"{side}: {size}" for side, size in crop.items())
    (base / "in" / "domain.yaml").write_text(f"images: .\ncrop: {{{sides}}}\n")
    result = segment(SegmentOptions(base / "in", path, out=base / "out", invert=invert, memory_mb=memory_mb))
    with microseg.load_engine(path, memory_mb=memory_mb) as engine:
        found = engine.predict(image, crop=crop or None, invert=invert)
        of_file = engine.predict(base / "in" / "a.tif", crop=crop or None, invert=invert)
    mask = mask_of(base / "out", "a.tif")
    assert np.array_equal(found.labels, mask) and np.array_equal(of_file.labels, mask)
    assert np.array_equal(found.votes, of_file.votes)
    row = rows_of(base / "out")["a.tif"]
    for phase, fraction in found.fractions.items():
        assert float(row[f"fraction_{phase}"]) == fraction
        spread = np.std([fold[phase] for fold in found.fold_fractions], ddof=1)
        assert float(row[f"fold_std_{phase}"]) == pytest.approx(spread, abs=1e-12)
    assert "; ".join(found.notices) == row["notices"]
    assert found.measured_px == int(row["measured_px"]) and result.summary["fields"]["measured"] == 1


def test_the_content_of_a_result(engine: LoadedEngine, tmp_path: Path) -> None:
    image = micrograph(90, 120, 1)
    found = engine.predict(image, pixel_size_um=0.5, crop=Crop(bottom_px=10, left_px=20))
    assert found.phases == engine.phases == ("ferrite", "bainite") and engine.domains == ("bright", "dark")
    assert found.labels.dtype == np.uint8 and found.labels.shape == (90, 120)
    assert (found.labels[80:] == 255).all() and (found.labels[:, :20] == 255).all()
    assert found.votes.dtype == np.uint8 and found.votes.shape == (2, 90, 120) and (found.votes[:, 80:] == 255).all()
    assert found.probability.dtype == np.float32 and found.probability.shape == (2, 90, 120)
    assert np.isnan(found.probability[:, 80:]).all() and np.isnan(found.probability[:, :, :20]).all()
    inside = found.probability[:, :80, 20:]
    assert np.allclose(inside.sum(0), 1) and np.array_equal(inside.argmax(0), found.labels[:80, 20:])
    assert found.probability is found.probability
    assert list(found.fractions) == ["ferrite", "bainite"] and {type(value) for value in found.fractions.values()} == {
        float
    }
    assert found.fractions["bainite"] == np.mean(found.labels[:80, 20:] == 1)
    assert [fold["bainite"] for fold in found.fold_fractions] == [np.mean(vote[:80, 20:] == 1) for vote in found.votes]
    assert {type(value) for fold in found.fold_fractions for value in fold.values()} == {float}
    assert found.measured_px == 8000 and found.area_um2 == 2000.0 and found.pixel_size_um == 0.5
    assert found.error is None and found.notices == () and "bainite" in repr(found)


def test_the_overlay_is_that_of_the_report(engine: LoadedEngine, tiny_engine: Path, tmp_path: Path) -> None:
    import cv2

    folder = tmp_path / "w"
    folder.mkdir()
    for name, size in (("small", (90, 120)), ("large", (300, 2500))):
        Image.fromarray(micrograph(*size, 1)).save(folder / f"{name}.png")
    report = segment(SegmentOptions(folder, tiny_engine)).report
    for name in ("small", "large"):
        picture = engine.predict(folder / f"{name}.png").overlay()
        assert picture.dtype == np.uint8 and max(picture.shape[:2]) <= 2048
        _, data = cv2.imencode(".jpg", np.ascontiguousarray(picture[..., ::-1]), [cv2.IMWRITE_JPEG_QUALITY, 85])
        assert data.tobytes() == (report / "overlays" / f"{name}.png.jpg").read_bytes()


def test_domain_inversion_and_pixel_size(tmp_path: Path) -> None:
    domains = [
        DomainEntry(name="sem", preparation=Preparation(pixel_size_um=0.1)),
        DomainEntry(name="lom", preparation=Preparation(invert=True, pixel_size_um=0.2)),
    ]
    path = write_threshold_engine(tmp_path / "e.onnx", domains=domains, grid=Grid(pixel_size_um=0.2))
    image = micrograph(90, 120, 2)
    with microseg.load_engine(path) as engine:
        found = engine.predict(image)
        assert found.pixel_size_um is None and found.area_um2 is None
        assert found.pixel_size_source == "assumed from the training images"
        assert np.array_equal(found.labels, engine.predict(image, pixel_size_um=0.1).labels)
        inverted = engine.predict(image, domain="lom", invert=False)
        assert np.array_equal(inverted.labels, engine.predict(image, pixel_size_um=0.2).labels)
        assert not np.array_equal(inverted.labels, engine.predict(image, domain="lom").labels)
        for wrong, message in (
            ({"domain": "tem"}, "'sem', 'lom'"),
            ({"crop": {"bottom": 3}}, "is no crop.*bottom_px"),
            ({"crop": {"bottom_px": -1}}, "is no crop"),
            ({"crop": 3}, "is no crop"),
            ({"pixel_size_um": 0.0}, "pixel_size_um=0.0"),
            ({"pixel_size_um": float("nan")}, "pixel_size_um=nan"),
        ):
            with pytest.raises(InputError, match=message):
                engine.predict(image, **wrong)
            with pytest.raises(InputError, match=message):
                engine.predict_many([image], **wrong)


def test_arrays_that_are_not_contiguous(engine: LoadedEngine) -> None:
    image = micrograph(180, 240, 3)
    for view in (
        image[::2, ::2],
        image[:, ::-1],
        image.T,
        np.asfortranarray(image),
        np.stack([image, image], 2)[..., 0],
    ):
        assert np.array_equal(engine.predict(view).labels, engine.predict(np.ascontiguousarray(view)).labels)
    image.flags.writeable = False
    assert engine.predict(image).error is None


def test_arrays_of_three_dimensions_are_treated_as_files(engine: LoadedEngine) -> None:
    grey = micrograph(90, 120, 4)
    wanted = engine.predict(grey).labels
    alpha = np.full_like(grey, 255)
    for channels in ([grey], [grey, grey, grey]):
        found = engine.predict(np.stack(channels, 2))
        assert np.array_equal(found.labels, wanted) and found.notices == ()
    for channels in ([grey, alpha], [grey, grey, grey, alpha]):
        found = engine.predict(np.stack(channels, 2))
        assert np.array_equal(found.labels, wanted) and found.notices == ("alpha channel dropped",)
    with pytest.raises(FieldError, match=r"array: .* are coloured"):
        engine.predict(np.stack([grey, grey, 255 - grey], 2))


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.zeros((90, 120), np.int32), r"array: holds int32. Accepted: uint8, uint16.*Remedy: convert it"),
        (np.zeros((90, 120), bool), "holds bool"),
        (np.zeros((90, 120), complex), "holds complex128"),
        (np.array([["a"]], object), "holds object"),
        (np.zeros((90, 120, 5), np.uint8), r"shape \(90, 120, 5\). Accepted: \(H, W\).*one image at a time"),
        (np.zeros((3, 90, 120), np.uint8), r"shape \(3, 90, 120\)"),
        (np.zeros(90, np.uint8), r"shape \(90,\)"),
        (np.zeros((0, 0), np.uint8), "leaves nothing|too small"),
        (np.full((90, 120), -1, np.int16), "negative values"),
        (np.full((90, 120), np.nan), "NaN"),
        (np.zeros((90, 120), np.uint8), "every pixel is 0"),
        (np.ma.masked_array(np.zeros((90, 120), np.uint8)), "masked array"),
    ],
)
def test_arrays_that_cannot_be_measured_say_why(engine: LoadedEngine, array: NDArray[Any], message: str) -> None:
    with pytest.raises(FieldError, match=message):
        engine.predict(array)
    (result,) = engine.predict_many([array])
    assert result.error is not None
    with pytest.raises(FieldError, match=message.replace("array: ", "array 0: ")):
        _ = result.labels


@pytest.mark.parametrize("wrong", [[[1, 2], [3, 4]], None, 7, b"a.png"])
def test_what_is_neither_path_nor_array_is_a_type_error(engine: LoadedEngine, wrong: Any) -> None:
    with pytest.raises(TypeError, match="a path or a NumPy array"):
        engine.predict(wrong)
    with pytest.raises(TypeError, match="several paths or arrays"):
        engine.predict_many("wafer_dir")
    results = engine.predict_many([micrograph(90, 120, 0), wrong])
    assert next(results).error is None
    with pytest.raises(TypeError, match="a path or a NumPy array"):
        next(results)


def test_an_array_beyond_the_memory_bound_is_cut_into_more_tiles(tmp_path: Path) -> None:
    path = write_threshold_engine(tmp_path / "e.onnx", bytes_per_pixel=1000)
    image = micrograph(500, 400, 5)
    with microseg.load_engine(path) as whole, microseg.load_engine(path, memory_mb=455) as bounded:
        assert bounded.limits.max_tile_pixels < image.size
        assert np.array_equal(whole.predict(image).labels, bounded.predict(image).labels)
        assert np.allclose(whole.predict(image).probability, bounded.predict(image).probability, atol=1e-5)
        assert whole.shared.runs < bounded.shared.runs
    with pytest.raises(InputError, match="needs at least"):
        microseg.load_engine(path, memory_mb=10)


def test_many_fields_come_in_order_and_one_that_fails_ends_nothing(engine: LoadedEngine, tmp_path: Path) -> None:
    images = [micrograph(60 + 10 * index, 120, index) for index in range(8)]
    Image.fromarray(images[1]).save(tmp_path / "one.png")
    (tmp_path / "broken.png").write_bytes(b"broken")
    sources: list[Any] = [
        images[0],
        str(tmp_path / "one.png"),
        tmp_path / "broken.png",
        tmp_path / "none.tif",
        *images[2:],
    ]
    results = list(engine.predict_many(sources))
    assert [result.name for result in results[:5]] == [
        "array 0", str(tmp_path / "one.png"), str(tmp_path / "broken.png"), str(tmp_path / "none.tif"), "array 4"
    ]  # fmt: skip
    assert [result.error is None for result in results] == [True, True, False, False] + [True] * 6
    measured = [result for result in results if result.error is None]
    assert [result.labels.shape for result in measured] == [image.shape for image in images]
    for result, image in zip(measured, images, strict=True):
        assert np.array_equal(result.labels, engine.predict(image).labels)
    with pytest.raises(FieldError, match=r"none\.tif: cannot be read"):
        engine.predict(tmp_path / "none.tif")


def test_the_same_field_twice(engine: LoadedEngine, tmp_path: Path) -> None:
    Image.fromarray(micrograph(60, 70, 1)).save(tmp_path / "a.png")
    first, second = engine.predict_many([tmp_path / "a.png"] * 2)
    assert np.array_equal(first.probability, second.probability, equal_nan=True)


def test_sources_are_taken_a_few_ahead_and_an_iteration_left_early_stops(engine: LoadedEngine) -> None:
    taken = 0

    def sources() -> Iterator[NDArray[np.uint8]]:
        nonlocal taken
        for index in range(10_000):
            taken += 1
            yield micrograph(60, 70, index % 5)

    before = set(threading.enumerate())
    results = engine.predict_many(sources())
    next(results)
    deadline = time.monotonic() + 5
    seen = -1
    while seen != taken and time.monotonic() < deadline:
        seen = taken
        time.sleep(0.2)
    assert taken < 40
    results.close()  # type: ignore[attr-defined]
    assert set(threading.enumerate()) <= before
    now = taken
    time.sleep(0.05)
    assert taken == now and engine.predict(micrograph(60, 70, 0)).error is None


def test_an_error_of_the_sources_reaches_the_caller(engine: LoadedEngine) -> None:
    def sources() -> Iterator[NDArray[np.uint8]]:
        yield micrograph(60, 70, 0)
        raise ConnectionError("camera")

    results = engine.predict_many(sources())
    assert next(results).error is None
    with pytest.raises(ConnectionError, match="camera"):
        next(results)


def test_a_probability_of_something_that_changed_is_refused(engine: LoadedEngine, tmp_path: Path) -> None:
    image = micrograph(60, 70, 1)
    Image.fromarray(image).save(tmp_path / "a.png")
    of_array, of_file = engine.predict(image), engine.predict(tmp_path / "a.png")
    image[0, 0] += 1
    with pytest.raises(FieldError, match="array: changed since"):
        _ = of_array.probability
    Image.fromarray(micrograph(60, 71, 1)).save(tmp_path / "a.png")
    with pytest.raises(FieldError, match=r"a\.png: changed since"):
        _ = of_file.probability
    (tmp_path / "a.png").unlink()
    with pytest.raises(FieldError, match=r"a\.png: cannot be"):
        _ = of_file.probability


def test_without_a_with_block(tiny_engine: Path) -> None:
    engine = microseg.load_engine(str(tiny_engine), threads=1, runtime="onnxruntime", device="cpu")
    assert not engine.closed
    result = engine.predict(micrograph(60, 70, 1))
    engine.close()
    engine.close()
    assert engine.closed and result.fractions and result.overlay().size
    for use in (
        lambda: engine.predict(micrograph(60, 70, 1)),
        lambda: engine.predict_many([]),
        lambda: result.probability,
    ):
        with pytest.raises(InputError, match=r"tiny\.onnx: the engine is closed\. Remedy: load it again"):
            use()
    left = microseg.load_engine(tiny_engine)
    del left
    gc.collect()


def test_two_engines_in_one_process(tmp_path: Path) -> None:
    image = micrograph(90, 120, 6)
    first = microseg.load_engine(write_threshold_engine(tmp_path / "a.onnx", [(0.3,)]))
    second = microseg.load_engine(write_threshold_engine(tmp_path / "b.onnx", [(0.7,)], names=("dark", "light")))
    with first, second:
        found = [engine.predict(image).fractions for engine in (first, second, first)]
        assert found[0] == found[2] and found[0]["bainite"] > found[1]["light"]
        pairs = zip(first.predict_many([image] * 4), second.predict_many([image] * 4), strict=True)
        assert all((one.fractions, two.fractions) == (found[0], found[1]) for one, two in pairs)


@pytest.mark.parametrize("runtime", ["onnxruntime", "openvino"])
def test_threads_that_share_an_engine(tiny_engine: Path, runtime: Any) -> None:
    images = [micrograph(60 + 8 * index, 120, index) for index in range(6)]
    with microseg.load_engine(tiny_engine, runtime=runtime, threads=2) as engine:
        wanted = [engine.predict(image).labels for image in images]
        wrong: list[object] = []

        def work() -> None:
            for index, image in enumerate(images):
                if not np.array_equal(engine.predict(image).labels, wanted[index]):
                    wrong.append(index)
            for index, result in enumerate(engine.predict_many(images)):
                if not np.array_equal(result.labels, wanted[index]):
                    wrong.append(index)

        threads = [threading.Thread(target=work) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
        assert not wrong and not any(thread.is_alive() for thread in threads)


def test_an_engine_closed_while_it_computes(tiny_engine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`close` waits for the call under way; what then follows says that the engine is closed."""
    inside, go = threading.Event(), threading.Event()
    run = OnnxEngine.run

    def slow(self: OnnxEngine, tiles: NDArray[np.uint8], **options: Any) -> Any:
        inside.set()
        assert go.wait(20)
        return run(self, tiles, **options)

    monkeypatch.setattr(OnnxEngine, "run", slow)
    engine = microseg.load_engine(tiny_engine, runtime="onnxruntime")
    found: list[object] = []

    def use() -> None:
        try:
            for result in engine.predict_many([micrograph(60, 70, index) for index in range(20)]):
                found.append(result.error)
        except InputError as error:
            found.append(str(error))

    user = threading.Thread(target=use)
    user.start()
    assert inside.wait(20)
    closer = threading.Thread(target=engine.close)
    closer.start()
    time.sleep(0.1)
    assert closer.is_alive()
    go.set()
    closer.join(20)
    user.join(20)
    assert not closer.is_alive() and not user.is_alive()
    assert "the engine is closed" in str(found[-1]) and all(each is None for each in found[:-1])


def test_an_engine_that_is_none(tmp_path: Path, tiny_engine: Path) -> None:
    data = tiny_engine.read_bytes()
    changed = tmp_path / "changed.onnx"
    changed.write_bytes(data[:200] + bytes([data[200] ^ 1]) + data[201:])
    for path, message in (
        (tmp_path / "none.onnx", "does not exist"),
        (tmp_path, "is a folder"),
        (changed, "changed.onnx"),
    ):
        with pytest.raises(InputError, match=message):
            microseg.load_engine(path)


def test_no_thread_stays_behind(tiny_engine: Path, wafer: Callable[..., Path]) -> None:
    before = set(threading.enumerate())
    with microseg.load_engine(tiny_engine) as engine:
        list(engine.predict_many(sorted(wafer(3).iterdir())))
    assert set(threading.enumerate()) <= before
