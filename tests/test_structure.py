"""The shape of the tree: short modules and functions, small folders, calls that can be read, tests where the code is."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "microseg"
TESTS = ROOT / "tests"
# Folders of tests that stand for no package: what `import microseg` offers, what needs a browser, and what needs a GPU.
WITHOUT_PACKAGE = {"api", "browser", "gpu"}

MOST_LINES_OF_A_MODULE = 400
MOST_LINES_OF_A_FUNCTION = 80
MOST_MODULES_OF_A_FOLDER = 14
MOST_POSITIONAL_ARGUMENTS = 7


def _modules() -> list[Path]:
    return sorted(PACKAGE.rglob("*.py"))


def _nodes(kind: type[ast.AST] | tuple[type[ast.AST], ...]) -> Iterator[tuple[str, ast.AST]]:
    """Every node of the kind with its file and line."""
    for path in _modules():
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, kind):
                yield f"{path.relative_to(ROOT).as_posix()}:{node.lineno}", node  # type: ignore[attr-defined]


def _folders(root: Path) -> list[Path]:
    found = [path for path in root.rglob("*") if path.is_dir() and path.name != "__pycache__"]
    return [path for path in found if any(path.glob("*.py"))]


def test_no_module_is_too_long() -> None:
    lines = {path.relative_to(ROOT).as_posix(): len(path.read_text("utf-8").splitlines()) for path in _modules()}
    assert lines, "microseg is found"
    assert {path: count for path, count in lines.items() if count > MOST_LINES_OF_A_MODULE} == {}


def test_no_function_is_too_long() -> None:
    lines = {}
    for place, node in _nodes((ast.FunctionDef, ast.AsyncFunctionDef)):
        assert isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.end_lineno is not None
        lines[f"{place} {node.name}"] = node.end_lineno - node.lineno + 1
    assert {function: count for function, count in lines.items() if count > MOST_LINES_OF_A_FUNCTION} == {}


def test_no_folder_holds_too_many_modules() -> None:
    counts = {
        folder.relative_to(ROOT).as_posix(): sum(path.name != "__init__.py" for path in folder.glob("*.py"))
        for folder in [PACKAGE, *_folders(PACKAGE)]
    }
    assert {folder: count for folder, count in counts.items() if count > MOST_MODULES_OF_A_FOLDER} == {}


def test_no_call_has_too_many_positional_arguments() -> None:
    counts = {}
    for place, node in _nodes(ast.Call):
        assert isinstance(node, ast.Call)
        counts[f"{place} {ast.unparse(node.func)}"] = len(node.args)
    assert {call: count for call, count in counts.items() if count > MOST_POSITIONAL_ARGUMENTS} == {}


@pytest.mark.parametrize("folder", _folders(TESTS), ids=lambda folder: folder.relative_to(TESTS).as_posix())
def test_tests_mirror_the_package(folder: Path) -> None:
    path = folder.relative_to(TESTS)
    assert path.parts[0] in WITHOUT_PACKAGE or (PACKAGE / path).is_dir()
