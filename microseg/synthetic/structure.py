"""The material before any etchant or microscope: grains, packets, laths and particles as continuous geometry.

A simplified complex-phase steel (Goetz et al. 2022). Prior austenite grains are divided into packets of parallel laths with
carbide films between them (lath-shaped bainite), and into polygonal or irregular ferrite with dispersed carbon-rich second
phase and martensite-austenite (MA) islands. All lengths are in micrometres; any grid can sample them.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import cv2
import numpy as np
from numpy.typing import NDArray

from microseg.synthetic.geometry import (
    Cells,
    Floats,
    Hash,
    Integers,
    SamplingGrid,
    SmoothNoise,
    scattered_points,
    voronoi,
)
from microseg.synthetic.particles import Particles, scatter_particles

FERRITE, BAINITE = 0, 1

GRAIN_UM = 11.0
UNIT_UM = 4.6
# Grains are a little longer in the rolling direction, which lies along the rows.
ELONGATION = 1.2
# Laths end at, or grow past, a packet's border by up to this much.
LATH_END_UM = 0.45
LATH_WIDTH_UM = 0.66
LATHS_PER_FAMILY = 48
# The fixed grid on which a structure is measured (fraction, free places for particles), whatever it is rendered at.
PLAN_PIXEL_UM = 0.1
FAR_UM = 9.0


@dataclass(frozen=True)
class Structure:
    """One piece of material, `extent_um` = (height, width). Units are packets (bainite) or grains (ferrite).

    seeds: (n, 2) x, y in the elongated frame. is_bainite, family, angle_rad: per unit. Units of one family share their
    laths; lath_edges: (families, LATHS_PER_FAMILY + 1) from 0 to 1 over one `lath_period_um` (families,).
    """

    extent_um: tuple[float, float]
    seeds: NDArray[np.float64]
    grain: Integers
    family: Integers
    angle_rad: Floats
    lath_edges: NDArray[np.float64]
    lath_period_um: Floats
    warp: tuple[tuple[SmoothNoise, SmoothNoise, float], ...]
    bend: tuple[tuple[SmoothNoise, float], ...]
    hash: Hash
    is_bainite: NDArray[np.bool_]
    particles: Particles


@dataclass(frozen=True)
class UnitMap:
    """The units at every pixel.

    Attributes:
        labels: FERRITE or BAINITE, uint8.
        unit: index of the unit.
        neighbour: index of the neighbouring unit.
        border_um: distance to the border between the two, in micrometres.
        laths: the laths.
    """

    labels: NDArray[np.uint8]
    unit: Integers
    neighbour: Integers
    border_um: Floats
    laths: Laths


@dataclass(frozen=True)
class Laths:
    """The laths at every pixel whose unit, or a neighbour within reach, is a packet.

    Attributes:
        lath: key of the lath; -1 where there is none.
        edge: key of its nearer side.
        edge_um: distance to that side, in micrometres.
        across: position from side to side, 0-1.
        along_um: position along the lath, in micrometres.
    """

    lath: Integers
    edge: Integers
    edge_um: Floats
    across: Floats
    along_um: Floats


def grow_structure(seed: int, extent_um: tuple[float, float], fraction: float) -> Structure:
    """Grow a structure. The same seed and extent with another fraction keep all grains and laths; units change their phase.

    Args:
        seed: its seed.
        extent_um: (height, width) in micrometres.
        fraction: area fraction of lath bainite, met to about one percent, 0-1.
    """
    rng = np.random.default_rng([seed, 1])
    stretched = (extent_um[0], extent_um[1] / ELONGATION)
    grains = scattered_points(rng, stretched, GRAIN_UM, drop=0.15)
    seeds = scattered_points(rng, stretched, UNIT_UM, drop=0.2)
    grain = np.argmin(((seeds[:, None, :] - grains[None, :, :]) ** 2).sum(-1), axis=1).astype(np.int32)
    # Each prior austenite grain has four habit-plane traces; a packet takes one of them.
    variant = rng.integers(0, 4, len(seeds))
    family = (grain * 4 + variant).astype(np.int32)
    traces = np.sort(rng.uniform(0, np.pi / 4, (len(grains), 4)), axis=1) + np.arange(4) * np.pi / 4
    traces += rng.uniform(0, np.pi, (len(grains), 1))
    widths = rng.lognormal(0.0, 0.38, (len(grains) * 4, LATHS_PER_FAMILY))
    coarseness = rng.lognormal(np.log(LATH_WIDTH_UM), 0.16, len(grains) * 4)
    edges = np.concatenate([np.zeros((len(widths), 1)), np.cumsum(widths, axis=1)], axis=1)

    def noise(spacing_um: float) -> SmoothNoise:
        return SmoothNoise(rng, extent_um, spacing_um)

    structure = Structure(
        extent_um=extent_um,
        seeds=seeds,
        grain=grain,
        family=family,
        angle_rad=traces.reshape(-1)[family].astype(np.float32),
        lath_edges=edges / edges[:, -1:],
        lath_period_um=(coarseness * LATHS_PER_FAMILY).astype(np.float32),
        warp=((noise(3.2), noise(3.2), 0.45), (noise(0.7), noise(0.7), 0.07)),
        bend=((noise(5.0), 0.35), (noise(1.2), 0.06), (noise(0.45), 0.02)),
        hash=Hash(rng),
        is_bainite=np.zeros(len(seeds), np.bool_),
        particles=Particles.none(),
    )
    # Whole prior grains tend to one phase, so that regions are larger than packets.
    score = rng.random(len(grains))[grain] + 0.45 * rng.random(len(seeds))
    rows, columns = (round(side / PLAN_PIXEL_UM) for side in extent_um)
    plan = SamplingGrid(rows, columns, PLAN_PIXEL_UM)
    structure = replace(structure, is_bainite=_choose_bainite(structure, plan, score, fraction))
    return replace(structure, particles=_place_particles(structure, plan, np.random.default_rng([seed, 2])))


def _choose_bainite(
    structure: Structure,
    plan: SamplingGrid,
    score: NDArray[np.float64],
    fraction: float,
) -> NDArray[np.bool_]:
    """The units of highest score whose areas add up to the fraction."""
    cells = cells_on(structure, plan)
    area = np.bincount(cells.nearest.ravel(), minlength=len(structure.seeds)) / cells.nearest.size
    order = np.argsort(-score, kind="stable")
    order = order[area[order] > 0]
    total = np.concatenate([[0.0], np.cumsum(area[order])])
    count = int(np.argmin(np.abs(total - fraction)))
    chosen = np.zeros(len(structure.seeds), np.bool_)
    chosen[order[:count]] = True
    return chosen


def _place_particles(structure: Structure, plan: SamplingGrid, rng: np.random.Generator) -> Particles:
    """Second phase and MA islands: in ferrite alone, away from bainite, denser in some grains and at their borders."""
    units = map_units(structure, plan)
    ferrite = (units.labels == FERRITE).astype(np.uint8)
    clear_um = cv2.distanceTransform(ferrite, cv2.DIST_L2, 5) * plan.pixel_size_um
    density = structure.hash(np.arange(len(structure.seeds), dtype=np.int32), 11)[units.unit]
    return scatter_particles(rng, plan, clear_um, density, units.border_um)


def cells_on(structure: Structure, grid: SamplingGrid) -> Cells:
    """Voronoi cells of the units with wavy borders, on a grid."""
    x = np.broadcast_to(grid.x_um, (grid.height, grid.width))
    y = np.broadcast_to(grid.y_um[:, None], (grid.height, grid.width))
    for horizontal, vertical, amplitude in structure.warp:
        x = x + amplitude * horizontal.sample(grid)
        y = y + amplitude * vertical.sample(grid)
    return voronoi(x / np.float32(ELONGATION), y, structure.seeds)


def map_units(structure: Structure, grid: SamplingGrid) -> UnitMap:
    """Labels and units on a grid. At a packet's border each lath ends at a place of its own.

    Args:
        structure: the structure.
        grid: the pixels.
    """
    cells = cells_on(structure, grid)
    inside = structure.is_bainite[cells.nearest]
    near = structure.is_bainite[cells.second] & (cells.border_um < LATH_END_UM)
    packet = np.where(inside, cells.nearest, np.where(near, cells.second, -1)).astype(np.int32)
    laths = _laths_of(structure, grid, packet)
    # Between two packets, or two ferrite grains, there is nothing to shift.
    movable = (inside != structure.is_bainite[cells.second]) & (laths.lath >= 0)
    depth_um = np.where(inside, cells.border_um, -cells.border_um)
    # A lath's tip is a lens: its middle reaches farthest.
    tip_um = (structure.hash(laths.lath, 21) * 1.5 - 0.75) * np.float32(LATH_END_UM)
    tip_um += ((2 * laths.across - 1) ** 2 - np.float32(1 / 3)) * np.float32(0.5 * LATH_END_UM)
    bainite = np.where(movable, depth_um > tip_um, inside)
    kept = bainite == inside
    return UnitMap(
        labels=bainite.astype(np.uint8),
        unit=np.where(kept, cells.nearest, cells.second),
        neighbour=np.where(kept, cells.second, cells.nearest),
        border_um=np.where(movable, np.abs(depth_um - tip_um), cells.border_um),
        laths=laths,
    )


def _laths_of(structure: Structure, grid: SamplingGrid, packet: Integers) -> Laths:
    """Laths of `packet` (H, W), which is -1 where there is none."""
    shape = packet.shape
    lath = np.full(shape, -1, np.int32)
    edge = np.full(shape, -1, np.int32)
    edge_um, across, along = (np.full(shape, value, np.float32) for value in (FAR_UM, 0.5, 0.0))
    where = packet >= 0
    rows, columns = np.nonzero(where)
    owner = packet[where]
    x, y = grid.x_um[columns], grid.y_um[rows]
    cos, sin = np.cos(structure.angle_rad)[owner], np.sin(structure.angle_rad)[owner]
    u, v = x * cos + y * sin, y * cos - x * sin
    for noise, amplitude in structure.bend:
        u = u + np.float32(amplitude) * noise.sample(grid)[where]
    family = structure.family[owner]
    period = structure.lath_period_um[family]
    turns = u.astype(np.float64) / period
    position = turns - np.floor(turns)
    # One search through all families' edges: family k occupies k .. k + 1.
    keys = (structure.lath_edges[:, :-1] + np.arange(len(structure.lath_edges))[:, None]).ravel()
    index = np.searchsorted(keys, position + family, side="right") - 1
    local = index - family * LATHS_PER_FAMILY
    left = structure.lath_edges[family, local]
    right = structure.lath_edges[family, local + 1]
    to_left, to_right = (position - left) * period, (right - position) * period
    lath[where] = index
    after = np.where(local + 1 == LATHS_PER_FAMILY, index - local, index + 1)
    edge[where] = np.where(to_left <= to_right, index, after)
    edge_um[where] = np.minimum(to_left, to_right)
    across[where] = (position - left) / (right - left)
    along[where] = v
    return Laths(lath, edge, edge_um, across, along)
