"""The appearance of one material in each domain: etchant, detector, optics and noise, as numbers.

Grey values: 0 is black and 1 is white before the detector's curve. Gains are added to the matrix; they are negative where a
feature is darker than the matrix (bright-field optics).
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Appearance:
    """The appearance of one domain. Lengths in micrometres, contrasts on the grey scale 0 to 1."""

    title: str
    pixel_size_um: float
    # Samples per pixel edge before the optics, so that films do not alias on coarse pixels.
    oversampling: int = 1
    invert: bool = False
    matrix: float = 0.36
    # Orientation contrast: one tone per grain or packet, per block of laths, per lath.
    unit_contrast: float = 0.045
    block_contrast: float = 0.03
    lath_contrast: float = 0.02
    # Carbide films on lath sides: half width, brightness, and which share of a side carries none.
    film_um: float = 0.05
    film_gain: float = 0.42
    film_gap: float = 0.33
    # Grey value that a packet gains from films that the optics do not resolve.
    haze: float = 0.0
    # Hierarchy inside laths: sub-block borders and their tone.
    sub_um: float = 0.03
    sub_gain: float = 0.0
    sub_contrast: float = 0.0
    # Grain and packet borders, and the share of them that has faded.
    border_um: float = 0.045
    border_gain: float = 0.2
    border_faded: float = 0.15
    # Second phase: body and rim of carbides and islands; over-etching grows or shrinks outlines.
    carbide_gain: float = 0.4
    island_gain: float = 0.1
    rim_gain: float = 0.3
    rim_um: float = 0.05
    particle_growth_um: float = 0.0
    # Etching artefacts: fine roughness, pits (dark) and residue (bright) per um2, stains.
    roughness: float = 0.012
    roughness_um: float = 0.25
    pits_per_um2: float = 0.0
    pit_gain: float = -0.3
    pit_um: float = 0.09
    stain_contrast: float = 0.0
    # Topography contrast: shading by the slope towards the detector.
    relief: float = 0.0
    # Optics and detector.
    psf_um: float = 0.02
    drift: float = 0.03
    curve: float = 1.0
    noise: float = 0.045
    noise_psf_px: float = 0.5
    line_noise: float = 0.006


DOMAINS: dict[str, Appearance] = {
    "s": Appearance(title="SEM in-lens, Struers A2 electrolytic etching", pixel_size_um=0.0277),
    "t1": Appearance(
        title="SEM in-lens, Nital 2 vol.%",
        pixel_size_um=0.0277,
        matrix=0.38,
        unit_contrast=0.055,
        lath_contrast=0.035,
        film_um=0.055,
        film_gain=0.4,
        sub_gain=0.16,
        sub_contrast=0.03,
        border_gain=0.24,
        roughness=0.02,
        pits_per_um2=0.25,
        stain_contrast=0.03,
    ),
    "t2": Appearance(
        title="SEM in-lens (second detector), Nital 2 vol.%, over-etched",
        pixel_size_um=0.0277,
        matrix=0.42,
        curve=1.25,
        unit_contrast=0.06,
        block_contrast=0.035,
        lath_contrast=0.035,
        film_um=0.15,
        film_gain=0.37,
        film_gap=0.47,
        sub_gain=0.14,
        sub_um=0.05,
        sub_contrast=0.03,
        border_um=0.11,
        border_gain=0.33,
        border_faded=0.4,
        carbide_gain=0.18,
        island_gain=0.1,
        rim_gain=0.3,
        rim_um=0.08,
        particle_growth_um=0.05,
        roughness=0.032,
        roughness_um=0.3,
        pits_per_um2=0.5,
        pit_um=0.12,
        relief=0.2,
        psf_um=0.03,
        noise=0.03,
    ),
    "t3": Appearance(
        title="LOM bright field, Nital 2 vol.%",
        pixel_size_um=0.1266,
        oversampling=2,
        invert=True,
        matrix=0.72,
        unit_contrast=0.05,
        block_contrast=0.07,
        lath_contrast=0.14,
        film_um=0.07,
        film_gain=-0.35,
        film_gap=0.33,
        sub_contrast=0.03,
        border_um=0.12,
        border_gain=-0.5,
        border_faded=0.3,
        carbide_gain=-0.5,
        island_gain=0.1,
        rim_gain=-0.5,
        rim_um=0.1,
        roughness=0.045,
        roughness_um=0.4,
        pits_per_um2=0.15,
        pit_um=0.12,
        stain_contrast=0.02,
        psf_um=0.15,
        drift=0.04,
        noise=0.02,
        noise_psf_px=0.4,
        line_noise=0.0,
        haze=-0.05,
    ),
}
