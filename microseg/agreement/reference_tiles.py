"""An engine on the reference tiles that it carries: against the labels stored with them, or against another engine."""

from __future__ import annotations

import numpy as np

from microseg.agreement.check_table import CheckTable
from microseg.agreement.labels import compare_labels, mean_fractions
from microseg.core.errors import InputError
from microseg.core.schemas.plan import PlanComparison
from microseg.core.schemas.reference import Reference, unpack
from microseg.runtime.engine import Engine


def check_reference(table: CheckTable, engine: Engine, reference: Reference) -> PlanComparison:
    """Compare the labels of the bag and the votes of the folds with the stored ones, and look for values that are not numbers.

    Args:
        table: the table to extend; its limits apply.
        engine: the engine to check.
        reference: the stored tiles, with the labels and votes of the exported network.

    Returns:
        The figures.

    Raises:
        InputError: the stored tiles are damaged.
        FieldError: the engine cannot compute a tile.
    """
    model = engine.manifest.model_sha256
    is_ours = reference.model_sha256 == model
    table.add("reference tiles are of this network", reference.model_sha256[:12], model[:12], is_ours)
    if any(len(tile.fractions) != len(table.phases) for tile in reference.tiles):
        raise InputError(
            f"the reference tiles of the engine do not have the {len(table.phases)} phases of its manifest. Remedy: copy or "
            "export the engine again."
        )
    tiles = [unpack(tile, len(engine.manifest.folds)) for tile in reference.tiles]
    # A plan built without the output `probability` still has `features`, which also show values that are not numbers.
    has = engine.manifest.gives_probability
    # First as `segment` runs it: a runtime may compile the network again for outputs that are seldom requested.
    found = [engine.run(pixels[None, None]) for pixels, _, _ in tiles]
    whole = [engine.run(pixels[None, None], features=not has, probability=has) for pixels, _, _ in tiles]
    numbers = [out.probability if has else out.features for out in whole]
    is_finite = all(values is not None and bool(np.isfinite(values).all()) for values in numbers)
    name = "probabilities" if has else "features"
    table.add(name, "finite" if is_finite else "NaN or infinite", "finite", is_finite)
    means = np.mean([tile.fractions for tile in reference.tiles], axis=0).tolist()
    phases = len(table.phases)
    bag = compare_labels([out.labels[0] for out in found], [labels for _, labels, _ in tiles], phases)
    table.compare("reference tiles", bag, means)
    folds = compare_labels([out.votes[0] for out in found], [votes for _, _, votes in tiles], phases)
    table.labels("reference tiles: votes of the folds", folds.labels)
    return PlanComparison(
        provider=engine.provider,
        label_disagreement=bag.labels,
        vote_disagreement=folds.labels,
        fraction_difference_points=dict(zip(table.phases, bag.points, strict=True)),
    )


def check_tiles_against(table: CheckTable, engine: Engine, other: Engine, reference: Reference, name: str) -> None:
    """Compare two engines on the pixels of the stored tiles.

    Args:
        table: the table to extend; its limits apply.
        engine: the engine to check.
        other: the engine that it is compared with.
        reference: the stored tiles; their labels are not used.
        name: of the other engine.

    Raises:
        InputError: the stored tiles are damaged.
        FieldError: an engine cannot compute a tile.
    """
    folds, phases = len(engine.manifest.folds), len(table.phases)
    tiles = [unpack(tile, folds)[0][None, None] for tile in reference.tiles]
    wanted = [other.run(tile).labels[0] for tile in tiles]
    seen = compare_labels([engine.run(tile).labels[0] for tile in tiles], wanted, phases)
    table.compare(f"reference tiles against {name}", seen, mean_fractions(wanted, phases))
