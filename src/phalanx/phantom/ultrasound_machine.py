"""Machines: their probes, their look, and what they write around the image. None is a real product."""

from dataclasses import dataclass, replace

import numpy as np

from .ultrasound_beam import Probe, Settings


@dataclass(frozen=True)
class Machine:
    """A model of ultrasound machine.

    ``fill``: fraction of the screen's height that the field takes; ``above``: fraction above it; ``paper``: grey level
    outside the field; ``ink``: of its captions, ``letter`` their height as a fraction of the side; ``captions``: where
    they are; ``ruler``: side of the depth scale; ``bar``: side of the grey wedge; ``cross``: shape of calipers;
    ``box``: results are on a dark box; ``corner``: of the results; ``unit``: of the results.
    """

    name: str
    probes: tuple[Probe, ...]
    settings: Settings
    fill: float
    above: float
    paper: int
    ink: int
    letter: float
    captions: tuple[str, ...]
    ruler: str
    bar: str
    cross: str
    box: bool
    corner: str
    unit: str


MACHINES = (
    Machine(
        "console-a", (Probe("curved", 52, 66), Probe("curved", 45, 74)),
        Settings(axial=0.28, lateral=0.5, smooth=0.45, range=60, contrast=0.5, sharpen=0.25, noise=-40),
        0.88, 0.07, 0, 205, 0.021, ("top", "right"), "right", "left", "+", False, "bottom-left", "cm",
    ),
    Machine(
        "console-b", (Probe("curved", 60, 60), Probe("curved", 40, 84)),
        Settings(axial=0.34, lateral=0.62, smooth=0.6, range=66, contrast=0.25, gamma=0.92, noise=-38, haze=-27),
        0.86, 0.09, 3, 180, 0.019, ("top", "left"), "right", "right", "x", True, "bottom-right", "cm",
    ),
    Machine(
        "console-c", (Probe("flat", 78, 52), Probe("flat", 95, 44)),
        Settings(axial=0.26, lateral=0.55, smooth=0.3, range=57, contrast=0.6, sharpen=0.4, noise=-37),
        0.84, 0.10, 8, 225, 0.022, ("top", "bottom"), "left", "left", "+", True, "top-left", "mm",
    ),
    Machine(
        "old", (Probe("curved", 58, 62), Probe("linear", width=105)),
        Settings(axial=0.4, lateral=0.66, compound=False, smooth=0.55, range=48,
                 contrast=0.4, noise=-27, tgc=3, haze=-26),
        0.84, 0.12, 16, 235, 0.027, ("top", "right", "bottom"), "left", "right", "+", False, "bottom-left", "mm",
    ),
    Machine(
        "portable", (Probe("curved", 18, 78), Probe("curved", 62, 58)),
        Settings(axial=0.38, lateral=0.62, smooth=0.3, range=54, contrast=0.1, gamma=0.85, noise=-29, contact=11),
        0.92, 0.05, 22, 200, 0.024, ("left",), "right", "none", "x", False, "top-right", "cm",
    ),
    Machine(
        "premium", (Probe("curved", 55, 72), Probe("flat", 85, 56)),
        Settings(axial=0.24, lateral=0.42, smooth=0.65, range=68, contrast=0.7, sharpen=0.3, noise=-45, haze=-33),
        0.93, 0.03, 0, 165, 0.017, ("right",), "left", "right", "+", True, "bottom-right", "cm",
    ),
)  # fmt: skip


@dataclass(frozen=True)
class Exam:
    """One visit: the machine, the mother and the fetus, the same for all images of a patient.

    ``wall``: thickness in mm of the mother's fat, and of muscle and uterus; ``gain`` in dB; ``weeks`` of pregnancy.
    """

    machine: Machine
    probe: Probe
    settings: Settings
    weeks: float
    wall: tuple[float, float]
    clock: int

    def wide(self) -> "Exam":
        """The exam with a probe that sees several organs at once: parallel beams do not."""
        return replace(self, probe=self.machine.probes[0]) if self.probe.shape == "linear" else self


def draw_exam(rng: np.random.Generator) -> Exam:
    """The exam of a patient: heavier mothers have weaker images."""
    machine = MACHINES[int(rng.integers(len(MACHINES)))]
    fat = float(np.clip(rng.lognormal(2.45, 0.4), 5, 32))
    settings = machine.settings.with_(
        gain=rng.normal(0, 3) - 0.16 * max(fat - 12, 0),
        noise=machine.settings.noise + 0.35 * max(fat - 12, 0) + rng.normal(0, 1.5),
        axial=machine.settings.axial * rng.uniform(0.9, 1.2),
        lateral=machine.settings.lateral * rng.uniform(0.9, 1.25) * (1 + 0.012 * max(fat - 12, 0)),
        focus=rng.uniform(0.35, 0.65),
        contrast=machine.settings.contrast * rng.uniform(0.7, 1.3),
        gamma=machine.settings.gamma * rng.uniform(0.85, 1.15),
        reverb=rng.normal(0, 3),
        contact=machine.settings.contact * rng.uniform(0.5, 1.8),
    )
    probe = machine.probes[int(rng.random() < 0.3)]
    wall = (fat, float(rng.uniform(11, 21)))
    return Exam(machine, probe, settings, float(rng.triangular(16, 23, 37)), wall, int(rng.integers(8, 18)))
