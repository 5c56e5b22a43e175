"""An archive from and to an S3 server on this machine, of whose answers a share are errors, time-outs, or cut."""

from __future__ import annotations

import logging
import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

SECRET = "hidden-word"


class Faults:
    """A server's application with faults in a share of its answers: 500, 503, too late, or cut in the middle.

    Attributes:
        share: The share, 0-1.
        number: How many faults there were.
        requests: How many requests there were for each path.
    """

    def __init__(self, application: Callable[..., Iterable[bytes]], share: float, seed: int) -> None:
        self.share = share
        self.number = 0
        self.requests: Counter[str] = Counter()
        self._application = application
        self._random = random.Random(seed)
        self._lock = threading.Lock()

    def __call__(self, environment: dict[str, Any], start: Callable[..., Any]) -> Iterable[bytes]:
        """Answer one request."""
        with self._lock:
            self.requests[environment.get("PATH_INFO", "")] += 1
            kind = self._random.randrange(4) if self._random.random() < self.share else None
            self.number += kind is not None
        if kind is None:
            return self._application(environment, start)
        if kind == 3:
            body = b"".join(self._application(environment, start))
            return [body[: len(body) // 2]]
        if kind == 2:
            time.sleep(1)
        status = {0: "500 Internal Server Error", 1: "503 Slow Down", 2: "504 Gateway Timeout"}[kind]
        start(status, [("Content-Length", "0")])
        return [b""]


@contextmanager
def s3_server(share: float, seed: int) -> Iterator[tuple[Faults, dict[str, str]]]:
    """A server with faults, and the environment in which commands find it.

    Args:
        share: Share of the answers that are faults, 0-1.
        seed: Seed of the faults.
    """
    from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
    from werkzeug.serving import make_server

    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    application = Faults(DomainDispatcherApplication(create_backend_app), share, seed)
    server = make_server("127.0.0.1", 0, application, threaded=True)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield (
            application,
            {
                "AWS_ENDPOINT_URL": f"http://127.0.0.1:{server.server_port}",
                "AWS_ACCESS_KEY_ID": "testing",
                "AWS_SECRET_ACCESS_KEY": SECRET,
                "AWS_DEFAULT_REGION": "us-east-1",
            },
        )
    finally:
        server.shutdown()
        thread.join()


def copy_folder(source: Path, bucket: str) -> None:
    """Put the files of a folder into a new bucket."""
    import fsspec

    files = fsspec.filesystem("s3", use_listings_cache=False)
    files.mkdir(bucket)
    for path in source.rglob("*"):
        if path.is_file():
            files.pipe_file(f"{bucket}/{path.relative_to(source).as_posix()}", path.read_bytes())


def fetch_folder(bucket: str, target: Path) -> None:
    """Get every object of a bucket as a file."""
    import fsspec

    files = fsspec.filesystem("s3", use_listings_cache=False)
    for name in files.find(bucket):
        path = target / name.partition("/")[2]
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(files.cat_file(name))
