"""Networks as OpenVINO compiled them, kept beside their engines: loading one takes a tenth of the time."""

from __future__ import annotations

import hashlib
import io
import json
import zlib
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from microseg.core.files import sha256_of, write_bytes

_DIGEST_BYTES, _CHECK_BYTES = 32, 4


def compiled(
    path: Path, core: Any, device: str, settings: Mapping[str, Any], version: str, compile_: Callable[[], Any]
) -> Any:
    """The network of the engine at `path` for a device: from `<engine>.openvino`, or compiled and kept there.

    A file of another engine, version, processor or other settings, or a damaged one, is written anew; where the folder is
    not to be written to, every start compiles. Raises what `compile_` does.
    """
    place = path.with_name(f"{path.name}.openvino")
    processor = [core.get_property(device, name) for name in ("FULL_DEVICE_NAME", "OPTIMIZATION_CAPABILITIES")]
    made_of = [sha256_of(path), version, processor, dict(settings)]
    key = hashlib.sha256(json.dumps(made_of, sort_keys=True).encode("utf-8")).digest()
    with suppress(OSError, RuntimeError), place.open("rb") as stream:
        if stream.read(_DIGEST_BYTES) == key:
            check, network = stream.read(_CHECK_BYTES), stream.read()
            if check == _check(network):
                return core.import_model(io.BytesIO(network), device, settings)
    found = compile_()
    with suppress(OSError, RuntimeError):
        network = found.export_model().getvalue()
        write_bytes(place, b"".join((key, _check(network), network)))
    return found


def _check(network: bytes) -> bytes:
    return zlib.crc32(network).to_bytes(_CHECK_BYTES, "big")
