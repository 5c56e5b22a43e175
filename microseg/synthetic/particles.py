"""Dispersed second phase: carbides and MA islands as outlines that can be drawn on any pixel grid."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from microseg.synthetic.geometry import Floats, SamplingGrid

# Beyond this distance from an outline no rendering shows a particle.
HALO_UM = 0.45
CARBIDES_PER_UM2 = 2.0
ISLANDS_PER_UM2 = 0.075
HARMONICS = 2


@dataclass(frozen=True)
class Particles:
    """Outlines of n particles. The radius varies around an outline by its lobes, which makes islands angular.

    Attributes:
        centre_um: x and y, float64 (n, 2).
        radius_um: half axes, float64 (n, 2).
        angle_rad: direction of the first half axis, float64 (n,).
        tone: grey tone, 0-1, float64 (n,).
        is_island: whether it is an MA island, bool (n,).
        lobes: amplitude and phase of each harmonic, float64 (n, 2, HARMONICS).
    """

    centre_um: NDArray[np.float64]
    radius_um: NDArray[np.float64]
    angle_rad: NDArray[np.float64]
    tone: NDArray[np.float64]
    is_island: NDArray[np.bool_]
    lobes: NDArray[np.float64]

    @classmethod
    def none(cls) -> Particles:
        """No particles."""
        empty = np.zeros((0, 2))
        return cls(
            empty,
            empty,
            empty[:, 0],
            empty[:, 0],
            np.zeros(0, np.bool_),
            np.zeros((0, 2, HARMONICS)),
        )


def scatter_particles(
    rng: np.random.Generator,
    plan: SamplingGrid,
    clear_um: Floats,
    density: Floats,
    border_um: Floats,
) -> Particles:
    """Draw particles on the plan's grid.

    Args:
        rng: random numbers.
        plan: the grid on which places are chosen.
        clear_um: distance to what stays free of particles, (H, W), in micrometres.
        density: relative density, 0-1, (H, W).
        border_um: distance to a grain border, (H, W), in micrometres.
    """
    near_border = border_um < 0.22
    weight = 0.25 + 1.9 * density.astype(np.float64) ** 1.5
    carbides = _draw(
        rng,
        plan,
        CARBIDES_PER_UM2 * weight * np.where(near_border, 2.2, 0.85) * (clear_um > 0.2),
    )
    islands = _draw(
        rng,
        plan,
        ISLANDS_PER_UM2 * (0.4 + 1.2 * weight) * np.where(near_border, 2.5, 0.8) * (clear_um > 0.75),
    )
    count, total = len(islands), len(islands) + len(carbides)
    size = np.concatenate(
        [
            rng.lognormal(np.log(0.36), 0.35, count),
            rng.lognormal(np.log(0.085), 0.5, len(carbides)),
        ]
    )
    size = np.minimum(size, np.where(np.arange(total) < count, 0.75, 0.3))
    aspect = np.concatenate([rng.uniform(1.0, 2.0, count), rng.uniform(1.0, 1.9, len(carbides))])
    amplitude = rng.uniform(0.0, 0.24, (total, HARMONICS)) * (np.arange(total) < count)[:, None]
    return Particles(
        centre_um=np.concatenate([islands, carbides]),
        radius_um=np.stack([size * np.sqrt(aspect), size / np.sqrt(aspect)], axis=1),
        angle_rad=rng.uniform(0, np.pi, total),
        tone=rng.random(total),
        is_island=np.arange(total) < count,
        lobes=np.stack([amplitude, rng.uniform(0, 2 * np.pi, (total, HARMONICS))], axis=1),
    )


def _draw(rng: np.random.Generator, plan: SamplingGrid, per_um2: NDArray[np.float64]) -> NDArray[np.float64]:
    """Points (n, 2) x, y of a Poisson process with the given local density."""
    expected = np.cumsum(per_um2.ravel()) * plan.pixel_size_um**2
    count = rng.poisson(expected[-1])
    place = np.searchsorted(expected, rng.random(count) * expected[-1])
    cells = np.stack([place % plan.width, place // plan.width], axis=1)
    return (cells + rng.random((count, 2))) * plan.pixel_size_um


def stamp(particles: Particles, grid: SamplingGrid) -> tuple[Floats, Floats, NDArray[np.bool_]]:
    """Draw outlines on a grid.

    Args:
        particles: the outlines.
        grid: the pixels.

    Returns:
        Signed distance to the nearest outline (negative inside, at most HALO_UM, in micrometres), its tone, and whether it
        is an island, each (height, width).
    """
    shape = (grid.height, grid.width)
    distance = np.full(shape, HALO_UM, np.float32)
    tone = np.zeros(shape, np.float32)
    island = np.zeros(shape, np.bool_)
    pixel = grid.pixel_size_um
    reach = particles.radius_um.max(axis=1, initial=0) * 1.6 + HALO_UM if len(particles.tone) else np.zeros(0)
    first = np.floor((particles.centre_um - reach[:, None]) / pixel - 0.5).astype(int).clip(0)
    last = np.ceil((particles.centre_um + reach[:, None]) / pixel + 0.5).astype(int)
    x_um, y_um = grid.x_um, grid.y_um
    for n in range(len(particles.tone)):
        window = np.s_[first[n, 1] : last[n, 1], first[n, 0] : last[n, 0]]
        x = (x_um[window[1]] - particles.centre_um[n, 0])[None, :]
        y = (y_um[window[0]] - particles.centre_um[n, 1])[:, None]
        if not x.size or not y.size:
            continue
        near = _outline_distance(particles, n, x, y)
        closer = near < distance[window]
        distance[window][closer] = near[closer]
        tone[window][closer] = particles.tone[n]
        island[window][closer] = particles.is_island[n]
    return distance, tone, island


def _outline_distance(particles: Particles, n: int, x: Floats, y: Floats) -> Floats:
    cos, sin = np.cos(particles.angle_rad[n]), np.sin(particles.angle_rad[n])
    a, b = particles.radius_um[n]
    along, across = (x * cos + y * sin) / a, (y * cos - x * sin) / b
    scaled = np.sqrt(along * along + across * across)
    if particles.is_island[n]:
        theta = np.arctan2(across, along)
        outline = np.ones_like(theta)
        for k, (amplitude, phase) in enumerate(particles.lobes[n].T, start=2):
            outline += amplitude * np.cos(k * theta + phase)
        scaled = scaled / outline
    return np.asarray((scaled - 1) * b, np.float32)
