"""From a structure to a micrograph: etched relief, optics, detector and noise."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from microseg.synthetic.appearance import Appearance
from microseg.synthetic.geometry import Floats, SamplingGrid, SmoothNoise
from microseg.synthetic.particles import stamp
from microseg.synthetic.structure import BAINITE, Structure, UnitMap

FILM_LENGTH_UM = 1.3
SUB_LENGTH_UM = 0.75
LATHS_PER_BLOCK = 3
RELIEF_UM = 0.06
_TO_DETECTOR = np.array([[-1, 0, 0], [0, 0, 0], [0, 0, 1]], np.float32)


def render(structure: Structure, units: UnitMap, look: Appearance, grid: SamplingGrid, seed: int) -> NDArray[np.uint8]:
    """The micrograph of a structure.

    Args:
        structure: the structure.
        units: its map on the grid divided by `look.oversampling`.
        look: the domain's appearance.
        grid: the pixels of the micrograph.
        seed: seed of noise and artefacts.

    Returns:
        uint8 (grid.height, grid.width).
    """
    rng = np.random.default_rng([seed, 3, *look.title.encode()])
    fine = grid.divided(look.oversampling)
    surface = _etched(structure, units, look, fine)
    surface = _artefacts(surface, look, fine, rng)
    if look.relief:
        slope = cv2.filter2D(_blurred(surface, RELIEF_UM / fine.pixel_size_um), cv2.CV_32F, _TO_DETECTOR)
        surface = surface + np.float32(look.relief * RELIEF_UM / fine.pixel_size_um) * slope
    surface = _blurred(surface, look.psf_um / fine.pixel_size_um)
    if look.oversampling > 1:
        surface = cv2.resize(surface, (grid.width, grid.height), interpolation=cv2.INTER_AREA).astype(np.float32)
    return _detected(surface, look, grid, rng)


def _blurred(surface: Floats, sigma_px: float) -> Floats:
    return np.asarray(cv2.GaussianBlur(surface, (0, 0), sigma_px), np.float32)


def _line(distance_um: Floats, half_um: float, soft_um: float) -> Floats:
    """Profile of a line feature. A line thinner than a pixel gets fainter, not thinner."""
    wide = float(np.hypot(half_um, soft_um))
    return np.asarray(np.float32(half_um / wide) * np.exp(-np.square(distance_um * np.float32(1 / wide))), np.float32)


def _step(value: Floats, low: float, high: float) -> Floats:
    """0 below `low`, 1 above `high`, smooth between."""
    t = np.clip((value - np.float32(low)) / np.float32(high - low), 0, 1)
    return np.asarray(t * t * (3 - 2 * t), np.float32)


def _etched(structure: Structure, units: UnitMap, look: Appearance, grid: SamplingGrid) -> Floats:
    soft = 0.4 * grid.pixel_size_um
    bright = np.float32(look.matrix) + np.float32(look.unit_contrast) * _tone(structure, units.unit, 31)
    bright += _borders(structure, units, look, soft)
    _add_laths(bright, structure, units, look, soft)
    distance, tone, island = stamp(structure.particles, grid)
    distance -= np.float32(look.particle_growth_um)
    cover = _step(-distance, -max(soft, 0.02), max(soft, 0.02))
    gain = np.where(island, np.float32(look.island_gain), np.float32(look.carbide_gain)) * (0.6 + 0.6 * tone)
    bright = bright * (1 - cover) + (np.float32(look.matrix) + gain) * cover
    rim = _line(distance, look.rim_um, soft) * np.where(island, np.float32(1), np.float32(0.35))
    return np.asarray(bright + np.float32(look.rim_gain) * rim, np.float32)


def _tone(structure: Structure, key: NDArray[np.int32], salt: int) -> Floats:
    """A number from -1 to 1 for each key."""
    return structure.hash(key, salt) * 2 - 1


def _borders(structure: Structure, units: UnitMap, look: Appearance, soft: float) -> Floats:
    """Grain and packet borders. They are fainter in a prior grain, and absent between packets of one family."""
    pair = np.minimum(units.unit, units.neighbour) * 4093 + np.maximum(units.unit, units.neighbour)
    strength = _step(structure.hash(pair, 41), look.border_faded - 0.1, look.border_faded + 0.25)
    family = structure.family[units.unit] == structure.family[units.neighbour]
    packets = structure.is_bainite[units.unit] & structure.is_bainite[units.neighbour]
    strength *= np.where(packets, np.where(family, np.float32(0), np.float32(0.7)), np.float32(1))
    return np.float32(look.border_gain) * strength * _line(units.border_um, look.border_um, soft)


def _add_laths(bright: Floats, structure: Structure, units: UnitMap, look: Appearance, soft: float) -> None:
    """Films, blocks, laths and their sub-structure, added in place where the label is bainite."""
    where = units.labels == BAINITE
    lath, edge = units.laths.lath[where], units.laths.edge[where]
    along, edge_um, across = (
        units.laths.along_um[where],
        units.laths.edge_um[where],
        units.laths.across[where],
    )
    value = np.float32(look.haze) + np.float32(look.block_contrast) * _tone(structure, lath // LATHS_PER_BLOCK, 51)
    value += np.float32(look.lath_contrast) * _tone(structure, lath, 52)
    # Sub-block borders cross a lath at an angle, each lath with its own spacing and slope.
    if look.sub_gain or look.sub_contrast:
        spacing = SUB_LENGTH_UM * (0.6 + 0.9 * structure.hash(lath, 61))
        place = along / spacing + across * (structure.hash(lath, 62) * 2 - 1) + 64 * structure.hash(lath, 63)
        cell = np.floor(place)
        sub = lath * 53 + cell.astype(np.int32)
        share = place - cell
        value += np.float32(look.sub_contrast) * _tone(structure, sub, 64)
        nearer = sub + (share > 0.5)
        present = _step(structure.hash(nearer, 65), 0.3, 0.5)
        value += np.float32(look.sub_gain) * present * _line(np.minimum(share, 1 - share) * spacing, look.sub_um, soft)
    carried = structure.hash.along(edge, along / FILM_LENGTH_UM, 71)
    film = _step(carried, look.film_gap - 0.06, look.film_gap + 0.12)
    thickness = 0.55 + 0.9 * structure.hash.along(edge, along / 0.35, 72)
    value += np.float32(look.film_gain) * film * _line(edge_um / thickness, look.film_um, soft)
    # Between films a lath's side is a faint groove or step.
    value += np.float32(0.12 * look.film_gain) * (1 - film) * _line(edge_um, look.film_um * 0.7, soft)
    bright[where] += value


def _artefacts(surface: Floats, look: Appearance, grid: SamplingGrid, rng: np.random.Generator) -> Floats:
    """Roughness, pits and residue, stains: what the etchant leaves besides the structure."""
    extent = (grid.height * grid.pixel_size_um, grid.width * grid.pixel_size_um)
    rough = _blurred(rng.standard_normal(surface.shape, dtype=np.float32), look.roughness_um / 2 / grid.pixel_size_um)
    surface = surface + rough * np.float32(look.roughness / max(float(rough.std()), 1e-6))
    if look.stain_contrast:
        surface += np.float32(look.stain_contrast) * _step(SmoothNoise(rng, extent, 2.5).sample(grid), 0.8, 1.4)
    if look.pits_per_um2:
        spots = np.zeros_like(surface)
        count = rng.poisson(look.pits_per_um2 * extent[0] * extent[1])
        rows, columns = (
            rng.integers(0, grid.height, count),
            rng.integers(0, grid.width, count),
        )
        spots[rows, columns] = np.where(rng.random(count) < 0.8, 1.0, -0.7) * rng.lognormal(0, 0.4, count)
        sigma = look.pit_um / 1.5 / grid.pixel_size_um
        surface += _blurred(spots, sigma) * np.float32(look.pit_gain * 2 * np.pi * sigma**2)
    return surface


def _detected(surface: Floats, look: Appearance, grid: SamplingGrid, rng: np.random.Generator) -> NDArray[np.uint8]:
    """Drift of brightness over the field, the detector's curve, noise that grows with the signal, 8 bit."""
    extent = (grid.height * grid.pixel_size_um, grid.width * grid.pixel_size_um)
    drift = SmoothNoise(rng, extent, max(extent) / 2).sample(grid)
    signal = np.clip(surface * (1 + np.float32(look.drift) * drift), 0.0, None) ** np.float32(look.curve)
    noise = rng.standard_normal(signal.shape, dtype=np.float32)
    noise = _blurred(noise, look.noise_psf_px)
    noise *= np.float32(look.noise / max(float(noise.std()), 1e-6))
    noise *= np.sqrt(0.4 + np.clip(signal, 0, 1.5))
    lines = np.float32(look.line_noise) * rng.standard_normal((grid.height, 1), dtype=np.float32)
    return np.asarray(np.clip(np.rint((signal + noise + lines) * 255), 0, 255), np.uint8)
