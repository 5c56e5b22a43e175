"""What a writer leaves where a path is no plain file: links, devices, pipes, sockets, open files. Never the system's own."""

from __future__ import annotations

import os
import socket
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from microseg.core.errors import InputError
from microseg.core.system.files import (
    final_name,
    is_abandoned,
    is_temporary,
    make_folder,
    replacing,
    require_writable,
    write_bytes,
    write_text,
    writing,
)

POSIX = pytest.mark.skipif(os.name != "posix", reason="links, pipes and rights of POSIX")
IS_ROOT = os.name == "posix" and os.geteuid() == 0


def write(path: Path, data: bytes = b"new") -> None:
    """As a command does: checked first, written after the computation."""
    require_writable(path)
    with writing(path):
        write_bytes(path, data)


def refused(path: Path) -> str:
    """The message, which the check before and the writer have in common."""
    messages = []
    for attempt in (require_writable, _written):
        with pytest.raises(InputError) as caught:
            attempt(path)
        messages.append(str(caught.value))
    assert messages[0] == messages[1] and "Remedy" in messages[0]
    return messages[0]


def _written(path: Path) -> None:
    with writing(path):
        write_bytes(path, b"new")


@POSIX
@pytest.mark.parametrize("chain", [["real"], ["next", "real"], ["sub/next", "../real"]])
def test_a_link_stays_and_its_target_is_written(tmp_path: Path, chain: list[str]) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "real").write_bytes(b"old")
    link = tmp_path / "link"
    place = link
    for target in chain:
        place.symlink_to(target)
        place = place.parent / target
    write(link)
    assert link.is_symlink() and link.readlink() == Path(chain[0])
    assert (tmp_path / "real").read_bytes() == b"new"
    assert not (tmp_path / "real").is_symlink()
    assert not [path for path in tmp_path.rglob("*") if is_temporary(path.name)]


@POSIX
def test_a_link_to_another_folder_is_replaced_there(tmp_path: Path) -> None:
    (tmp_path / "here").mkdir()
    (tmp_path / "there").mkdir()
    (tmp_path / "there" / "a.json").write_bytes(b"old")
    (tmp_path / "here" / "a.json").symlink_to(tmp_path / "there" / "a.json")
    with replacing(tmp_path / "here" / "a.json") as part:
        assert part.parent == tmp_path / "there", "beside the target, so that the rename is atomic"
        part.write_bytes(b"new")
    assert (tmp_path / "there" / "a.json").read_bytes() == b"new"


@POSIX
def test_a_link_to_nothing_makes_its_target(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to("sub/real")
    write(tmp_path / "link")
    assert (tmp_path / "link").is_symlink() and (tmp_path / "sub" / "real").read_bytes() == b"new"


@POSIX
def test_a_link_to_a_folder_that_is_not_there_makes_it(tmp_path: Path) -> None:
    (tmp_path / "out").symlink_to("elsewhere")
    write(tmp_path / "out" / "a.json")
    assert (tmp_path / "out").is_symlink() and (tmp_path / "elsewhere" / "a.json").read_bytes() == b"new"
    make_folder(tmp_path / "out")


@POSIX
def test_links_in_a_circle_are_refused_in_words(tmp_path: Path) -> None:
    (tmp_path / "one").symlink_to("two")
    (tmp_path / "two").symlink_to("one")
    assert "its links lead in a circle" in refused(tmp_path / "one")
    assert (tmp_path / "one").is_symlink()


@POSIX
@pytest.mark.parametrize("through_a_link", [False, True])
def test_a_pipe_without_reader_does_not_block_and_stays(tmp_path: Path, through_a_link: bool) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "link").symlink_to("pipe")
    assert "is a named pipe" in refused(tmp_path / ("link" if through_a_link else "pipe"))
    assert stat.S_ISFIFO((tmp_path / "pipe").lstat().st_mode)


@POSIX
def test_a_socket_is_refused_and_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)  # names of sockets are short
    with socket.socket(socket.AF_UNIX) as server:
        server.bind("socket")
        assert "is a socket" in refused(Path("socket"))
        assert stat.S_ISSOCK(Path("socket").lstat().st_mode)


def _node(path: Path, kind: int, major: int, minor: int) -> Path:
    try:
        os.mknod(path, 0o666 | kind, os.makedev(major, minor))
    except (OSError, AttributeError):
        pytest.skip("no right to make a device")
    return path


@POSIX
def test_a_character_device_is_written_to_and_stays(tmp_path: Path) -> None:
    null = _node(tmp_path / "null", stat.S_IFCHR, 1, 3)
    write(null)
    assert stat.S_ISCHR(null.lstat().st_mode)
    with replacing(null) as part:
        part.write_bytes(b"new")
    assert stat.S_ISCHR(null.lstat().st_mode) and list(tmp_path.iterdir()) == [null]


@POSIX
def test_a_full_device_is_said(tmp_path: Path) -> None:
    full = _node(tmp_path / "full", stat.S_IFCHR, 1, 7)
    require_writable(full)
    with pytest.raises(InputError, match=r"full: the disk is full\..*Remedy"):
        _written(full)


@POSIX
def test_a_block_device_is_refused(tmp_path: Path) -> None:
    disk = _node(tmp_path / "disk", stat.S_IFBLK, 240, 99)  # nothing has this number; it is not opened
    assert "is a block device" in refused(disk)
    assert stat.S_ISBLK(disk.lstat().st_mode)


def test_a_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"is a folder\. Remedy"):
        require_writable(tmp_path)
    with pytest.raises(InputError, match="folder"):
        _written(tmp_path)
    assert tmp_path.is_dir()


STDOUT = """
import sys
from pathlib import Path
from microseg.core.system.files import require_writable, write_text
print("before")
require_writable(Path(sys.argv[1]))
write_text(Path(sys.argv[1]), "told\\n")
print("after")
"""


@pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="Linux")
@pytest.mark.parametrize("name", ["/dev/stdout", "/proc/self/fd/1", "/dev/fd/1", "/proc/thread-self/fd/1", "link"])
@pytest.mark.parametrize("to_a_file", [False, True])
def test_the_process_s_own_output(tmp_path: Path, name: str, to_a_file: bool) -> None:
    (tmp_path / "link").symlink_to("/proc/self/fd/1")
    command = [sys.executable, "-c", STDOUT, name]
    if to_a_file:
        with (tmp_path / "log").open("wb") as log:
            subprocess.run(command, cwd=tmp_path, stdout=log, check=True, timeout=60)
        told = (tmp_path / "log").read_text()
    else:
        told = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True, timeout=60).stdout
    assert told == "before\ntold\nafter\n"
    assert (tmp_path / "link").is_symlink()


@pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="Linux")
def test_a_reader_that_has_read_enough_is_no_error() -> None:
    read, written = os.pipe()
    os.close(read)
    try:
        write_bytes(Path(f"/proc/self/fd/{written}"), b"told")
    finally:
        os.close(written)


@pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="Linux")
def test_an_open_file_that_is_none_is_refused() -> None:
    assert "cannot be written" in refused(Path("/proc/self/fd/987"))


@POSIX
@pytest.mark.parametrize("mode", [0o600, 0o640, 0o666, 0o755])
def test_an_existing_file_keeps_its_mode(tmp_path: Path, mode: int) -> None:
    path = tmp_path / "a.json"
    path.write_bytes(b"old")
    path.chmod(mode)
    write(path)
    assert (stat.S_IMODE(path.stat().st_mode), path.read_bytes()) == (mode, b"new")


@pytest.mark.skipif(not IS_ROOT, reason="only root gives files away")
def test_an_existing_file_keeps_its_owner(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_bytes(b"old")
    os.chown(path, 12345, 23456)
    write(path)
    assert (path.stat().st_uid, path.stat().st_gid, path.read_bytes()) == (12345, 23456, b"new")


@POSIX
def test_a_new_file_has_the_mode_of_the_user_s_mask(tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        write(tmp_path / "a.json")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "a.json").stat().st_mode) == 0o640


# Root may write everything; the answer that another user gets is played then.
READ_ONLY = """
import os, sys
from pathlib import Path
if os.geteuid() == 0:
    os.access = lambda *given: False
from microseg.core.errors import InputError
from microseg.core.system.files import require_writable, write_bytes
path = Path(sys.argv[1])
for attempt in (lambda: require_writable(path), lambda: write_bytes(path, b"new")):
    try:
        attempt()
    except (InputError, PermissionError) as error:
        assert "it is read-only" in str(error), error
    else:
        raise SystemExit("written")
"""


@POSIX
def test_a_read_only_file_stays(tmp_path: Path) -> None:
    path = tmp_path / "reference.json"
    path.write_bytes(b"old")
    path.chmod(0o444)
    subprocess.run([sys.executable, "-c", READ_ONLY, str(path)], check=True, timeout=60)
    assert path.read_bytes() == b"old"


@POSIX
def test_another_hard_link_keeps_the_earlier_content(tmp_path: Path) -> None:
    (tmp_path / "kept").write_bytes(b"old")
    (tmp_path / "a.json").hardlink_to(tmp_path / "kept")
    write(tmp_path / "a.json")
    assert ((tmp_path / "kept").read_bytes(), (tmp_path / "a.json").read_bytes()) == (b"old", b"new")


def test_what_the_command_reads_is_not_replaced(tmp_path: Path) -> None:
    (tmp_path / "engine.onnx").write_bytes(b"engine")
    (tmp_path / "link").symlink_to("engine.onnx")
    for path in (tmp_path / "engine.onnx", tmp_path / "link"):
        with pytest.raises(InputError, match=r": would be replaced, and the command reads it\. Remedy"):
            require_writable(path, (None, tmp_path / "none", tmp_path / "engine.onnx"))
    require_writable(tmp_path / "told.json", (tmp_path / "engine.onnx",))


def test_the_longest_names_are_written(tmp_path: Path) -> None:
    path = tmp_path / ("x" * 250 + ".json")
    write(path)
    assert path.read_bytes() == b"new"
    with pytest.raises(InputError, match="cannot be written"):
        require_writable(tmp_path / ("x" * 300))


def test_temporary_names() -> None:
    assert final_name("a.json.17-0fa3.part") == final_name("a.json.17.part") == "a.json"
    assert final_name("movie.part") == "movie.part" and not is_temporary("movie.part")
    assert is_abandoned(Path(f"a.json.{os.getpid()}-00.part")) and not is_abandoned(Path("a.json"))


@pytest.mark.skipif(not Path("/proc").is_dir(), reason="Linux lists processes")
def test_a_temporary_file_of_a_running_process_is_none_of_ours() -> None:
    assert not is_abandoned(Path(f"a.json.{os.getppid()}-00.part"))


def test_two_writers_of_one_file_do_not_meet(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    with replacing(path) as first, replacing(path) as second:
        assert first != second
        first.write_text("first")
        second.write_text("second")
    assert path.read_text() == "first" and list(tmp_path.iterdir()) == [path]
    write_text(path, "third\n")
    assert path.read_text() == "third\n"
