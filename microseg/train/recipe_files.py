"""Recipe files: found by name or path, merged with their base, overridden by `--set`, and validated."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from copy import deepcopy
from pathlib import Path
from typing import Any, TypeVar, get_args

import yaml
from pydantic import ValidationError

from microseg.core.content_problems import Problem, problems
from microseg.core.errors import InputError
from microseg.core.schemas.run import read_record, refuse_student
from microseg.core.system.yaml_file import read_yaml
from microseg.train.common.recipe import Recipe
from microseg.train.distillation.recipe import DistillRecipe
from microseg.train.pretraining.recipe import PretrainRecipe
from microseg.train.uda.recipe import UdaRecipe

# The recipe that configures itself.
AUTO = "auto"
PACKAGED = Path(__file__).parent / "recipes"
CHECKOUT = Path(__file__).parents[2] / "train"
AnyRecipe = TypeVar("AnyRecipe", Recipe, PretrainRecipe, UdaRecipe, DistillRecipe)


def recipe_names() -> list[str]:
    """Names of the shipped recipes."""
    return sorted(path.stem for path in _folder().glob("*.yaml"))


def load_recipe(
    name_or_file: str, overrides: Sequence[str] = (), *, folds: int | None = None, seed: int | None = None
) -> tuple[str, Recipe]:
    """Read a recipe of `train supervised`.

    Args:
        name_or_file: A shipped name, or a YAML file. Its `base` names the recipe that it changes.
        overrides: Texts KEY=VALUE, with dots between nested keys.
        folds: Folds, instead of the recipe's.
        seed: Seed, instead of the recipe's.

    Returns:
        Name and recipe.

    Raises:
        InputError: It names the key, the value and what is allowed.
    """
    return _load(name_or_file, overrides, {"folds": folds, "seed": seed}, Recipe)


def recipe_from(
    name: str, keys: Mapping[str, Any], overrides: Sequence[str] = (), *, seed: int | None = None
) -> Recipe:
    """A shipped recipe of `train supervised` with other values of some keys.

    Args:
        name: The shipped recipe.
        keys: The other values; a mapping replaces those of its keys.
        overrides: As for `load_recipe`. They win over `keys`.
        seed: As for `load_recipe`.

    Raises:
        InputError: It names the key, the value and what is allowed.
    """
    path = _file_of(name, "--recipe")
    return _checked(path, _merged(_tree(path, ()), dict(keys)), overrides, {"seed": seed}, Recipe)


def load_pretrain_recipe(
    name_or_file: str, overrides: Sequence[str] = (), *, init: str | None = None, seed: int | None = None
) -> tuple[str, PretrainRecipe]:
    """Read a recipe of `train pretrain`. Arguments and errors as for `load_recipe`.

    init: First weights of the encoder, instead of the recipe's.
    """
    overrides = [*overrides, *([f"encoder.weights={init}"] if init is not None else [])]
    return _load(name_or_file, overrides, {"seed": seed}, PretrainRecipe)


def load_uda_recipe(
    name_or_file: str, overrides: Sequence[str] = (), *, seed: int | None = None
) -> tuple[str, UdaRecipe]:
    """Read a recipe of `train uda`. Arguments and errors as for `load_recipe`."""
    return _load(name_or_file, overrides, {"seed": seed}, UdaRecipe)


def load_distill_recipe(
    name_or_file: str, overrides: Sequence[str] = (), *, seed: int | None = None
) -> tuple[str, DistillRecipe]:
    """Read a recipe of `distill`. Arguments and errors as for `load_recipe`."""
    return _load(name_or_file, overrides, {"seed": seed}, DistillRecipe)


def _load(
    name_or_file: str, overrides: Sequence[str], options: dict[str, int | None], model: type[AnyRecipe]
) -> tuple[str, AnyRecipe]:
    path = _file_of(name_or_file, "--recipe")
    return path.stem, _checked(path, _tree(path, ()), overrides, options, model)


def recipe_of_run(
    run: Path, overrides: Sequence[str] = (), *, folds: int | None = None, seed: int | None = None
) -> tuple[str, Recipe]:
    """Name and recipe of a supervised run, or of an adapted run's source. Arguments and errors as for `load_recipe`."""
    record = read_record(run)
    refuse_student(run, record)
    tree = deepcopy(record.recipe)
    return record.recipe_name, _checked(run, tree, overrides, {"folds": folds, "seed": seed}, Recipe)


def _checked(
    path: Path, tree: dict[str, Any], overrides: Sequence[str], options: dict[str, int | None], model: type[AnyRecipe]
) -> AnyRecipe:
    for override in overrides:
        _set(tree, override)
    tree |= {key: value for key, value in options.items() if value is not None}
    task = tree.get("task", "supervised")
    if task not in get_args(model.model_fields["task"].annotation):
        command = task if task == "distill" else f"train {task}"
        raise InputError(f"{path}: is a recipe of `{command}`. Remedy: that command, or another --recipe.")
    try:
        return model.model_validate(tree)
    except ValidationError as error:
        found = problems(error, tree, model)
        raise InputError("; ".join(_told(problem, path, overrides) for problem in found)) from error


def _file_of(name_or_file: str, asked_by: str) -> Path:
    if Path(name_or_file).suffix in (".yaml", ".yml"):
        return Path(name_or_file)
    path = _folder() / f"{name_or_file}.yaml"
    if not path.is_file():
        raise InputError(
            f"{asked_by} {name_or_file}: no such recipe. Remedy: one of {', '.join(recipe_names())}, or a YAML file."
        )
    return path


def _tree(path: Path, above: tuple[Path, ...]) -> dict[str, Any]:
    """The keys of a recipe file, merged into those of its `base`."""
    tree = read_yaml(path) or {}
    if not isinstance(tree, dict):
        raise InputError(f"{path}: holds a {type(tree).__name__}. Remedy: a recipe, which is a mapping of keys.")
    if (base := tree.pop("base", None)) is None:
        return tree
    if path in above:
        raise InputError(f"{path}: its `base` refers back to this file. Remedy: another `base`.")
    return _merged(_tree(_file_of(str(base), f"{path}: base"), (*above, path)), tree)


def _merged(under: dict[str, Any], over: dict[str, Any]) -> dict[str, Any]:
    """Both mappings, with the values of `over` where both have a key. A mapping of another `kind` replaces the whole one."""
    merged = under | over
    for key, value in over.items():
        below = under.get(key)
        if (
            isinstance(value, dict)
            and isinstance(below, dict)
            and value.get("kind", below.get("kind")) == below.get("kind")
        ):
            merged[key] = _merged(below, value)
    return merged


def _folder() -> Path:
    """The folder of the recipes: inside an installed package, or the top-level train/ of a checkout."""
    return PACKAGED if PACKAGED.is_dir() else CHECKOUT


def _set(tree: dict[str, Any], override: str) -> None:
    key, equals, value = override.partition("=")
    if not equals:
        raise InputError(
            f"--set {override}: not of the form KEY=VALUE. Remedy: as in --set optimiser.learning_rate=1e-3."
        )
    *parents, last = key.strip().split(".")
    for parent in parents:
        branch = tree.setdefault(parent, {})
        if not isinstance(branch, dict):
            raise InputError(f"--set {override}: {parent!r} holds no keys. Remedy: --set {parent}=VALUE.")
        tree = branch
    try:
        parsed = yaml.safe_load(value)
    except yaml.YAMLError as error:
        raise InputError(
            f"--set {override}: the value is not valid YAML. Remedy: quote it, or close its brackets."
        ) from error
    if isinstance(parsed, str):
        # YAML 1.1 reads 1e-3 as text, but the number is meant.
        with suppress(ValueError):
            parsed = float(parsed)
    tree[last] = parsed


def _told(problem: Problem, path: Path, overrides: Sequence[str]) -> str:
    """The problem with where its value comes from: the last `--set` of its key, else the file."""
    said = next((text for text in reversed(overrides) if text.partition("=")[0].strip() == problem.key), None)
    return f"{path if said is None else f'--set {said}'}: {problem.text}"
