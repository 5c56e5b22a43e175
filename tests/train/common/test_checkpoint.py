"""A fold's state on disk is complete, or that of before."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors import SafetensorError

from microseg.train.common import checkpoint
from microseg.train.common.checkpoint import save_model


def test_a_full_disk_is_an_error_of_the_system_and_leaves_the_weights_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "model.safetensors"
    save_model(path, {"weight": torch.ones(4)})
    before = path.read_bytes()

    def full(state: dict[str, torch.Tensor], part: Path) -> None:
        part.write_bytes(b"half")
        raise SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)")

    monkeypatch.setattr(checkpoint, "save_file", full)
    with pytest.raises(OSError, match="No space left on device") as caught:
        save_model(path, {"weight": torch.zeros(4)})
    assert caught.value.errno == 28 and caught.value.filename == str(path)
    assert list(tmp_path.iterdir()) == [path] and path.read_bytes() == before
