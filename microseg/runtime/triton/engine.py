"""The engine protocol over a model of a Triton Inference Server, by KServe's v2 protocol (HTTP)."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from microseg.core.errors import FieldError, InputError, MissingExtraError
from microseg.core.system.files import Closing
from microseg.runtime.engine import EngineOutput
from microseg.runtime.runtime_config import RuntimeConfig
from microseg.runtime.signature import check_counts, check_signature, wanted_outputs
from microseg.runtime.triton.address import Address

if TYPE_CHECKING:
    from microseg.core.schemas.manifest import Manifest

# Entries of the model's configuration, which `microseg export --triton` writes: the manifest, and the size of the engine's
# file, which decides how fields are cut into tiles.
MANIFEST_KEY, SIZE_KEY = "microseg_manifest", "microseg_engine_bytes"
# Triton's HTTP front end refuses larger requests by default (--http-max-input-size).
LARGEST_REQUEST_BYTES = 60 * 2**20
_EXPORT = "microseg export ENGINE --triton REPOSITORY, and restart the server or load the model again"


class TritonEngine(Closing):
    """The engine protocol over one version of a served model. As many threads may call it as the configuration has streams.

    Attributes:
        engine_bytes: size of the served engine's file.
        max_batch: tiles of one request, at most.
    """

    def __init__(
        self,
        address: Address,
        *,
        timeout_s: float,
        headers: Mapping[str, str],
        streams: int,
    ) -> None:
        """Connect, and read what the server says of the model.

        Args:
            address: the server and the model.
            timeout_s: longest wait for a connection and for an answer, in seconds.
            headers: sent with each request, a token for example. Messages do not show them.
            streams: requests under way at once.

        Raises:
            InputError: the server is not reached, does not serve the model, or the model is no engine of microseg.
            MissingExtraError: `tritonclient` is not installed.
        """
        try:
            import tritonclient.http
        except ImportError as error:
            raise MissingExtraError("A connection to a Triton server", "triton") from error
        self._client = tritonclient.http
        self._address, self._headers, self._timeout_s = address, dict(headers), timeout_s
        # Clients are not for several threads.
        self._own = threading.local()
        self._clients: list[Any] = []
        self._counting = threading.Lock()
        self.runs = 0
        try:
            self._read()
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            self.close()
            raise InputError(
                f"{address}: the server describes the model otherwise than KServe v2 and Triton do "
                f"({type(error).__name__}: {error}). Remedy: a Triton server."
            ) from error
        except BaseException:
            self.close()
            raise
        self.config = RuntimeConfig("tensorrt" if self.manifest.plan else "onnxruntime", "cuda", None, streams)
        self.version = str(self._version)
        self.provider = f"Triton at {address}, version {self._version}"

    def _read(self) -> None:
        """Ask the server for the latest version of the model, which stays the same from now on."""
        about = self._told("metadata", lambda client: client.get_model_metadata)
        self._version = max(about.get("versions") or ["1"], key=_number)
        about = self._told("metadata", lambda client: client.get_model_metadata, self._version)
        config = self._told("configuration", lambda client: client.get_model_config, self._version)
        self.manifest, self.engine_bytes = self._described(config)
        self._check(about)
        self.max_batch = max(1, int(config.get("max_batch_size", 1)))

    def run(self, tiles: NDArray[np.uint8], *, features: bool = False, probability: bool = False) -> EngineOutput:
        """Segment tiles uint8 (N, 1, H, W), in as many requests as the server's limits ask for.

        Raises:
            FieldError: the server does not answer, fails, or answers with other shapes.
        """
        with self._counting:
            self.runs += 1
        size = max(1, min(self.max_batch, LARGEST_REQUEST_BYTES // max(1, tiles[0].nbytes)))
        wanted = wanted_outputs(features, probability)
        parts = [self._answer(tiles[start : start + size], wanted) for start in range(0, len(tiles), size)]
        return EngineOutput(**{name: np.concatenate([part[name] for part in parts]) for name in wanted})

    def close(self) -> None:
        """Close the connections. The model stays with the server."""
        while self._clients:
            self._clients.pop().close()

    def _connection(self) -> Any:
        client = getattr(self._own, "client", None)
        if client is None:
            client = self._own.client = self._client.InferenceServerClient(
                self._address.host,
                connection_timeout=self._timeout_s,
                network_timeout=self._timeout_s,
                ssl=self._address.is_encrypted,
            )
            self._clients.append(client)
        return client

    def _told(self, what: str, call: Callable[[Any], Callable[..., Any]], version: str = "") -> dict[str, Any]:
        """What the server says of the model."""
        try:
            answer = call(self._connection())(self._address.model, version, headers=self._headers)
        except Exception as error:  # gevent, geventhttpclient, sockets and tritonclient raise their own
            raise InputError(
                f"{self._address}: the server does not give the model's {what} ({_reason(error)}). Remedy: check the address, "
                "and that the server is ready and serves the model."
            ) from error
        if not isinstance(answer, dict):
            raise InputError(
                f"{self._address}: the model's {what} is no JSON object. Remedy: a server that speaks KServe v2."
            )
        return answer

    def _described(self, config: Mapping[str, Any]) -> tuple[Manifest, int]:
        from microseg.core.schemas.manifest import Manifest

        parameters = config.get("parameters") or {}
        texts = {
            key: value["string_value"]
            for key, value in parameters.items()
            if isinstance(value, dict) and isinstance(value.get("string_value"), str)
        }
        if MANIFEST_KEY not in texts:
            raise InputError(
                f"{self._address}: the model's configuration holds no manifest of microseg, so its phases and preparation are "
                f"unknown. Remedy: {_EXPORT}."
            )
        manifest = Manifest.parsed(texts[MANIFEST_KEY], str(self._address), "its manifest", _EXPORT)
        size = texts.get(SIZE_KEY, "")
        return manifest, int(size) if size.isdecimal() else 0

    def _check(self, about: Mapping[str, Any]) -> None:
        inputs = {item["name"]: (item["datatype"], item["shape"]) for item in about.get("inputs", [])}
        outputs = {item["name"]: item["shape"] for item in about.get("outputs", [])}
        needed = outputs if self.manifest.gives_probability else outputs | {"probability": []}
        check_signature(str(self._address), inputs, needed, "UINT8")
        check_counts(str(self._address), self.manifest, outputs)

    def _answer(self, tiles: NDArray[np.uint8], wanted: list[str]) -> dict[str, NDArray[Any]]:
        given = self._client.InferInput("tiles", list(tiles.shape), "UINT8")
        given.set_data_from_numpy(np.ascontiguousarray(tiles))
        asked = [self._client.InferRequestedOutput(name) for name in wanted]
        try:
            answer = self._connection().infer(
                self._address.model, [given], model_version=self._version, outputs=asked, headers=self._headers
            )
            found = {name: answer.as_numpy(name) for name in wanted}
        except Exception as error:  # as above
            count, _, height, width = tiles.shape
            raise FieldError(
                f"{self._address}: the server failed on {count} tiles of {width} x {height} px ({_reason(error)}). Remedy: "
                "check that it is ready and serves this version, or a longer timeout_s."
            ) from error
        for name, value in found.items():
            self._require_shape(name, value, tiles.shape)
        return found

    def _require_shape(self, name: str, value: Any, shape: tuple[int, ...]) -> None:
        """Raise FieldError unless an output has the shape and type that the manifest promises."""
        count, _, height, width = shape
        folds, phases = len(self.manifest.folds), len(self.manifest.phases)
        expected = {"labels": (count, height, width), "votes": (count, folds, height, width)}
        expected["probability"] = (count, phases, height, width)
        dtype = np.uint8 if name in ("labels", "votes") else np.float32
        shape_found, dtype_found = ((), None) if value is None else (value.shape, value.dtype)
        is_right = shape_found == expected[name] if name in expected else shape_found[:2] == (count, folds)
        if is_right and dtype_found == dtype and name in ("labels", "votes"):
            is_right = value.size == 0 or int(value.max()) < phases
        if not is_right or dtype_found != dtype:
            raise FieldError(
                f"{self._address}: the server's {name} have the shape {shape_found}, the type {dtype_found} or phases that the "
                f"manifest does not know. Remedy: {_EXPORT}."
            )


def _number(version: object) -> int:
    return int(str(version)) if str(version).isdecimal() else 0


def _reason(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__
