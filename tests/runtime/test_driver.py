"""The driver is asked by a process that may crash, hang or find nothing; here it is mostly another one that answers."""

from __future__ import annotations

import ctypes.util
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from microseg.runtime import driver
from microseg.runtime.driver import gpu_absence, gpu_present


@pytest.fixture(autouse=True)
def _asked_anew(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(driver, "_has_files", lambda: True)
    gpu_absence.cache_clear()
    yield
    gpu_absence.cache_clear()


def test_without_files_nothing_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(driver, "_has_files", lambda: False)
    monkeypatch.setattr(sys, "executable", "/no/such/python")
    assert gpu_absence() == "none is found" and not gpu_present()


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        ("", None),
        ("import os; os.abort()", "asking the driver ended with "),
        ("import time; time.sleep(60)", "the driver does not answer within 0.5 s"),
        ("import sys; sys.exit('the driver shows no GPU')", "the driver shows no GPU"),
    ],
)
def test_whatever_it_answers(monkeypatch: pytest.MonkeyPatch, answer: str, reason: str | None) -> None:
    if "sleep" in answer:
        monkeypatch.setattr(driver, "_LIMIT_S", 0.5)
    monkeypatch.setattr(driver, "_ASK", answer)
    assert (gpu_absence() or "").startswith(reason or "") and gpu_present() == (reason is None)


def test_it_is_asked_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(driver, "_ASK", "")
    assert gpu_present()
    monkeypatch.setattr(sys, "executable", "/no/such/python")
    assert gpu_present()


def test_an_interpreter_that_cannot_be_started(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "/no/such/python")
    assert (gpu_absence() or "").startswith("the driver cannot be asked")


CUDA = """
#include <stdlib.h>
int cuInit(unsigned flags) { return getenv("FAKE_STATUS") ? atoi(getenv("FAKE_STATUS")) : 0; }
int cuDeviceGetCount(int *count) { *count = atoi(getenv("FAKE_COUNT")); return 0; }
int cuGetErrorString(int status, const char **words) { *words = "no CUDA-capable device is detected"; return 0; }
"""


@pytest.mark.skipif(not sys.platform.startswith("linux") or shutil.which("cc") is None, reason="no C compiler")
def test_the_questions_themselves(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Against a library with the driver's entry points."""
    (tmp_path / "cuda.c").write_text(CUDA, encoding="utf-8")
    subprocess.run(["cc", "-shared", "-fPIC", "-o", tmp_path / "libcuda.so.1", tmp_path / "cuda.c"], check=True)
    for library, count, status, reason in (
        (tmp_path, "1", "0", None),
        (tmp_path, "0", "0", "the driver shows no GPU"),
        (tmp_path, "1", "100", "the driver says: no CUDA-capable device is detected"),
        (tmp_path / "nowhere", "1", "0", "no driver: libcuda.so.1: cannot open shared object file"),
    ):
        if library != tmp_path and ctypes.util.find_library("cuda"):
            continue  # a machine with a driver
        for name, value in (("LD_LIBRARY_PATH", str(library)), ("FAKE_COUNT", count), ("FAKE_STATUS", status)):
            monkeypatch.setenv(name, value)
        gpu_absence.cache_clear()
        found = gpu_absence()
        assert (found or "").startswith(reason or "") and (found is None) == (reason is None)
