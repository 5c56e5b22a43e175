"""A server that speaks KServe's v2 protocol over HTTP, with the binary tensors of Triton, and computes with ONNX Runtime."""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from numpy.typing import NDArray

_DTYPES = {"UINT8": np.uint8, "FP32": np.float32}
_NAMES = {"tensor(uint8)": "UINT8", "tensor(float)": "FP32"}
_PARAMETER = re.compile(r'^parameters \{ key: "(\w+)" value \{ string_value: (".*") \} \}$', re.MULTILINE)


@dataclass
class Served:
    """What the stub serves, and what it saw.

    fails: answers to requests for inference with this status, while it is set.
    batches: tiles of each request for inference.
    headers: those of each request.
    """

    engine: Path
    name: str = "steel"
    versions: list[str] = field(default_factory=lambda: ["1"])
    max_batch: int = 8
    parameters: dict[str, str] = field(default_factory=dict)
    fails: int | None = None
    batches: list[int] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)
    changed: dict[str, NDArray[Any]] = field(default_factory=dict)

    def take_repository(self, model: Path) -> None:
        """Serve what `export --triton` wrote: the engine and the parameters of its configuration."""
        self.engine = model / "1" / "model.onnx"
        text = (model / "config.pbtxt").read_text(encoding="ascii")
        self.parameters = {key: json.loads(value) for key, value in _PARAMETER.findall(text)}


@contextmanager
def serving(served: Served) -> Iterator[str]:
    """The address of the model while the server runs on a free port of this machine."""
    session = onnxruntime.InferenceSession(served.engine, providers=["CPUExecutionProvider"])

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, format: str, *arguments: object) -> None:
            """Say nothing."""

        def do_GET(self) -> None:
            served.headers.append(dict(self.headers))
            parts = self.path.strip("/").split("/")
            if parts[:3] != ["v2", "models", served.name]:
                self._send(404, json.dumps({"error": f"Request for unknown model: '{parts[2]}' is not found"}).encode())
            elif parts[-1] == "config":
                values = {key: {"string_value": value} for key, value in served.parameters.items()}
                content = {"name": served.name, "max_batch_size": served.max_batch, "parameters": values}
                self._send(200, json.dumps(content).encode())
            else:
                tensors = {
                    kind: [{"name": node.name, "datatype": _NAMES[node.type], "shape": _shape(node)} for node in nodes]
                    for kind, nodes in (("inputs", session.get_inputs()), ("outputs", session.get_outputs()))
                }
                about = {"name": served.name, "versions": served.versions, "platform": "onnxruntime_onnx", **tensors}
                self._send(200, json.dumps(about).encode())

        def do_POST(self) -> None:
            served.headers.append(dict(self.headers))
            body = self.rfile.read(int(self.headers["Content-Length"]))
            if served.fails is not None:
                self._send(served.fails, json.dumps({"error": "out of memory"}).encode())
                return
            length = int(self.headers["Inference-Header-Content-Length"])
            asked = json.loads(body[:length])
            (given,) = asked["inputs"]
            tiles = np.frombuffer(body[length:], _DTYPES[given["datatype"]]).reshape(given["shape"])
            served.batches.append(len(tiles))
            names = [item["name"] for item in asked["outputs"]]
            found = dict(zip(names, session.run(names, {"tiles": tiles}), strict=True)) | served.changed
            said, blobs = [], []
            for name in names:
                blobs.append(np.ascontiguousarray(found[name]).tobytes())
                kind = "UINT8" if found[name].dtype == np.uint8 else "FP32"
                entry = {"name": name, "datatype": kind, "shape": list(found[name].shape)}
                said.append(entry | {"parameters": {"binary_data_size": len(blobs[-1])}})
            head = json.dumps({"model_name": served.name, "model_version": "1", "outputs": said}).encode()
            self._send(200, head + b"".join(blobs), {"Inference-Header-Content-Length": str(len(head))})

        def _send(self, status: int, body: bytes, headers: dict[str, str] | None = None) -> None:
            self.send_response(status)
            for key, value in ({"Content-Length": str(len(body))} | (headers or {})).items():
                self.send_header(key, value)
            self.end_headers()
            self.wfile.write(body)

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield f"triton://127.0.0.1:{server.server_address[1]}/{served.name}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def _shape(node: Any) -> list[int]:
    return [side if isinstance(side, int) else -1 for side in node.shape]
