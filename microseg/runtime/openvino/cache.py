"""Networks that OpenVINO compiled, kept beside their engines where that saves most of the time of loading (INT8)."""

from __future__ import annotations

import hashlib
import io
import json
import os
import time
import zlib
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from glob import escape
from pathlib import Path
from typing import Any, NamedTuple

from microseg import __version__
from microseg.core.system.files import file_identity, is_abandoned, replacing, sha256_of

_DIGEST_BYTES, _CHECK_BYTES = 32, 4
# Hashing, checking and importing a kept network takes about half of this for each byte of the engine. Float32 networks
# compile in less.
_WORTH_SECONDS_PER_BYTE = 2e-8


class Compiled(NamedTuple):
    """A compiled network.

    Attributes:
        network: the network.
        keep: leaves it beside its engine; to be called once the engine is known to be the exported one.
    """

    network: Any
    keep: Callable[[], None] = lambda: None


def compiled(
    path: Path,
    core: Any,
    device: str,
    settings: Mapping[str, Any],
    made_by: Sequence[str],
    compile_: Callable[[], Any],
    *,
    keep: bool,
) -> Compiled:
    """The network of an engine: read from `<engine>.openvino`, or compiled.

    A file of another engine, processor or other settings, or a damaged one, is not used.

    Args:
        path: the engine's file.
        core: OpenVINO's core.
        device: what computes.
        settings: settings of the compilation.
        made_by: OpenVINO's version and whatever else decides the result of `compile_`.
        compile_: compiles the network; its errors are raised.
        keep: whether the network may be kept for later starts.
    """
    place = path.with_name(f"{path.name}.openvino")
    identity = file_identity(path)

    def key() -> bytes:
        processor = [core.get_property(device, name) for name in ("FULL_DEVICE_NAME", "OPTIMIZATION_CAPABILITIES")]
        made_of = [sha256_of(path), __version__, *made_by, processor, dict(settings)]
        return hashlib.sha256(json.dumps(made_of, sort_keys=True).encode("utf-8")).digest()

    if place.is_file():  # reading a named pipe blocks
        with suppress(OSError, RuntimeError), place.open("rb") as stream:
            if stream.read(_DIGEST_BYTES) == key():
                check, network = stream.read(_CHECK_BYTES), stream.read()
                if check == _check(network):
                    return Compiled(core.import_model(io.BytesIO(network), device, settings))
    begun = time.monotonic()
    found = compile_()
    is_worth = time.monotonic() - begun > _WORTH_SECONDS_PER_BYTE * path.stat().st_size
    if not (keep and is_worth and os.access(path.parent, os.W_OK)):
        return Compiled(found)

    def keep_it() -> None:
        made_of = key()
        # The key is that of the compiled file, unless another file has this name by now.
        if file_identity(path) == identity:
            _write(place, made_of, found.export_model().getbuffer())

    return Compiled(found, keep_it)


def _write(place: Path, key: bytes, network: memoryview) -> None:
    for left in place.parent.glob(f"{escape(place.name)}.*.part"):
        if is_abandoned(left):  # by a start that was killed
            left.unlink(missing_ok=True)
    with replacing(place) as part, part.open("wb") as stream:
        for piece in (key, _check(network), network):
            stream.write(piece)


def _check(network: bytes | memoryview) -> bytes:
    return zlib.crc32(network).to_bytes(_CHECK_BYTES, "big")
