"""Networks as OpenVINO compiled them, kept beside their engines where loading them takes a fraction of the time: INT8."""

from __future__ import annotations

import hashlib
import io
import json
import os
import time
import zlib
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

from microseg import __version__
from microseg.core.system.files import PART_SUFFIX, file_identity, replacing, sha256_of

_DIGEST_BYTES, _CHECK_BYTES = 32, 4
# Hash, check and import of a kept network cost about half of this for each byte of the engine; float32 compiles in less.
_WORTH_SECONDS_PER_BYTE = 2e-8


class Compiled(NamedTuple):
    """A compiled network, and what leaves it beside its engine: for when the engine is known to be the one exported."""

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
    """The network of the engine at `path` for a device: from `<engine>.openvino`, or compiled and (`keep`) to be kept there.

    made_by: OpenVINO's version and whatever else decides what `compile_` makes. A file of another engine, processor or other
    settings, or a damaged one, is not used, and written anew. Raises what `compile_` does.
    """
    place = path.with_name(f"{path.name}.openvino")
    identity = file_identity(path)

    def key() -> bytes:
        processor = [core.get_property(device, name) for name in ("FULL_DEVICE_NAME", "OPTIMIZATION_CAPABILITIES")]
        made_of = [sha256_of(path), __version__, *made_by, processor, dict(settings)]
        return hashlib.sha256(json.dumps(made_of, sort_keys=True).encode("utf-8")).digest()

    if place.is_file():  # a named pipe would be waited for
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
        # What is hashed now was compiled, unless another file has come under this name since.
        if file_identity(path) == identity:
            _write(place, made_of, found.export_model().getbuffer())

    return Compiled(found, keep_it)


def _write(place: Path, key: bytes, network: memoryview) -> None:
    for left in place.parent.glob(f"{place.name}.*{PART_SUFFIX}"):  # of a start that was killed
        left.unlink(missing_ok=True)
    with replacing(place) as part, part.open("wb") as stream:
        for piece in (key, _check(network), network):
            stream.write(piece)


def _check(network: bytes | memoryview) -> bytes:
    return zlib.crc32(network).to_bytes(_CHECK_BYTES, "big")
