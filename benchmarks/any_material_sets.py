"""The labelled sets of `benchmarks.any_material`: real, synthetic, with few labels, or a stranger's own."""

from __future__ import annotations

import shutil
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from microseg.core.domains.domain import load_domain
from microseg.core.domains.domain_file import domain_file_in, read_domain_file
from microseg.core.system.files import write_yaml
from microseg.synthetic.folder import write_domain

DATA = Path(__file__).parent / "data"
SYNTHETIC = "synthetic-S"
# As in benchmarks.synthetic: fields of one seed to learn from, of another to score.
SYNTHETIC_FIELDS, SYNTHETIC_UNSEEN = 12, 8
SYNTHETIC_SEED, SYNTHETIC_UNSEEN_SEED = 1, 5001
FEW = (1, 2, 4)


@dataclass(frozen=True)
class Case:
    """A labelled set and how it is scored.

    name: Name of the set.
    source: The labelled domain; its folder or file.
    minutes: Budget of a training.
    test: A labelled domain that the mean of all folds scores; None: each field is scored by the fold that held it out.
    hand_made: The shipped recipe that a user picked before `auto`, or None.
    folds: Number of folds, where the set prescribes it.
    labelled: Fields that are drawn from the source by the seed; None: all.
    seeds: Seeds by default.
    arms: What is compared.
    """

    name: str
    source: Path
    minutes: float = 30.0
    test: Path | None = None
    hand_made: str | None = None
    folds: int | None = None
    labelled: int | None = None
    seeds: tuple[int, ...] = (0,)
    arms: tuple[str, ...] = ("auto", "hand_made", "forest", "plain")

    @property
    def has_test(self) -> bool:
        """Whether a test set scores it. That of synthetic fields is made."""
        return self.test is not None or self.name == SYNTHETIC


def few(labelled: int) -> Case:
    """A few labelled fields of the superalloy. Of a single one, none is left to suggest."""
    return Case(
        f"superalloy-{labelled}",
        DATA / "superalloy.yaml",
        minutes=5.0,
        test=DATA / "superalloy-test.yaml",
        labelled=labelled,
        seeds=(0, 1, 2),
        arms=("auto", "forest") if labelled == 1 else ("auto", "suggested", "forest"),
    )


CASES = {
    case.name: case
    for case in (
        Case(
            "superalloy",
            DATA / "superalloy.yaml",
            minutes=45.0,
            test=DATA / "superalloy-test.yaml",
            hand_made="superalloy",
        ),
        Case("coating", DATA / "coating.yaml", test=DATA / "coating-050317-3.yaml", hand_made="coating"),
        Case("superalloy-aged", DATA / "superalloy-aged.yaml", hand_made="superalloy", folds=4),
        Case("titanium", DATA / "titanium.yaml", hand_made="synthetic"),
        Case(SYNTHETIC, Path(), hand_made="synthetic"),
        *map(few, FEW),
    )
}


def case_of(text: str) -> Case:
    """The set of that name, or a stranger's labelled domain at that path, which cross-validation scores."""
    if text in CASES:
        return CASES[text]
    path = Path(text)
    return Case(load_domain(path).name, path, arms=("auto", "forest", "plain"))


def prepared(case: Case, seed: int, runs: Path) -> Case:
    """The set with all files in place: synthetic fields are made, fields with labels are drawn.

    Args:
        case: The set.
        seed: Seed that draws the fields of a set with few labels.
        runs: Folder for files.
    """
    if case.name == SYNTHETIC:
        source, test = runs / SYNTHETIC / "labelled", runs / SYNTHETIC / "unseen"
        write_domain(source, "s", SYNTHETIC_FIELDS, SYNTHETIC_SEED)
        write_domain(test, "s", SYNTHETIC_UNSEEN, SYNTHETIC_UNSEEN_SEED)
        return replace(case, source=source, test=test)
    if case.labelled is not None:
        names = drawn_fields(case.source, case.labelled, seed)
        folder = runs / case.name / f"labelled-{seed}"
        write_subset(case.source, names, folder)
        return replace(case, source=folder)
    return case


def drawn_fields(source: Path, number: int, seed: int) -> list[str]:
    """Names of fields that a seed draws. Those of a smaller number are part of those of a larger one."""
    names = sorted(field.name for field in load_domain(source).training_fields)
    return [names[index] for index in np.random.default_rng(seed).permutation(len(names))[:number]]


def write_subset(source: Path, names: list[str], folder: Path) -> None:
    """Write a domain folder with copies of some fields of a domain with masks.

    Args:
        source: The domain.
        names: Names of the fields.
        folder: The folder to write. What is in it is removed.
    """
    if folder.exists():
        shutil.rmtree(folder)
    described = domain_file_in(source) if source.is_dir() else source
    content = {} if described is None else read_domain_file(described).model_dump(mode="json", exclude_unset=True)
    for field in load_domain(source).training_fields:
        if field.name in names:
            assert field.mask is not None
            for file, place in ((field.image, "images"), (field.mask, "masks")):
                (folder / place).mkdir(parents=True, exist_ok=True)
                shutil.copy(file, folder / place)
    write_yaml(folder / "domain.yaml", content | {"images": "images", "masks": "masks"})


def write_pool(source: Path, folder: Path) -> dict[str, str]:
    """Copy the training images of a domain into one folder without labels.

    Args:
        source: The domain.
        folder: The folder to write. What is in it is removed.

    Returns:
        The name of the field in the domain, by the name of the file in the folder.
    """
    if folder.exists():
        shutil.rmtree(folder)
    folder.mkdir(parents=True)
    fields = load_domain(source).training_fields
    for field in fields:
        shutil.copy(field.image, folder)
    return {field.image.name: field.name for field in fields}
