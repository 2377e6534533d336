"""The beam: speckle, shadow, enhancement, grain and geometry, on planes whose tissue is known."""

import math

import cv2
import numpy as np
import pytest

from phalanx.phantom.ultrasound import draw_plane
from phalanx.phantom.ultrasound_anatomy import femur_length, head_width, waist
from phalanx.phantom.ultrasound_beam import BEAMS, SAMPLES, Probe, Settings, _blurred, _envelope, convert, scan
from phalanx.phantom.ultrasound_canvas import BONE, FLUID, SOFT, Canvas, Measure, blob, place, unit
from phalanx.phantom.ultrasound_machine import draw_exam
from phalanx.phantom.ultrasound_scene import visible

PROBES = [Probe("curved", 50, 66), Probe("curved", 18, 80), Probe("flat", 80, 50), Probe("linear", width=90)]
EVEN = SOFT._replace(mottle=0.0)
PLAIN = Settings(compound=False, smooth=0.0, tgc=0.0, contact=0.0, contrast=0.0, noise=-90, range=90, gain=20)


def plane(depth=120.0):
    return Canvas(depth, PROBES[0].span(depth) + 12, EVEN)


def columns(canvas, paint, settings=PLAIN, seed=0):
    """Grey levels of a plane with and without what ``paint`` adds, in dB, float32[2, SAMPLES, BEAMS]."""
    levels = []
    for painted in (True, False):
        fresh = Canvas(canvas.depth, canvas.width, EVEN)
        if painted:
            paint(fresh)
        levels.append(scan(fresh, PROBES[0], settings, np.random.default_rng(seed)) * settings.range)
    return np.array(levels)


@pytest.mark.parametrize("probe", PROBES, ids=lambda probe: f"{probe.shape}{probe.radius:g}")
def test_display_and_beams_are_inverse(probe):
    x, z = probe.points(130.0)
    beam, sample = probe.samples(x, z, 130.0)
    assert np.allclose(beam, np.arange(BEAMS)[None], atol=0.02)
    assert np.allclose(sample, np.arange(SAMPLES)[:, None], atol=0.05)
    assert np.ptp(x[-1]) == pytest.approx(probe.span(130.0), rel=0.12)


def test_speckle_is_rayleigh_and_two_views_halve_its_variance():
    """The mean of a fully developed envelope is 1.91 times its spread."""
    flat, nothing = np.ones((SAMPLES, BEAMS), np.float32), np.zeros((SAMPLES, BEAMS), np.float32)
    ratios = []
    for compound in (False, True):
        settings = PLAIN.with_(compound=compound, haze=-200)
        intensity, mean = _envelope(flat, nothing, settings, 0.25, 0.6, np.random.default_rng(1))
        inner = intensity[40:-40, 20:-20]
        assert inner.mean() == pytest.approx(float(mean[40:-40, 20:-20].mean()), rel=0.15)
        ratios.append(np.sqrt(inner).mean() / np.sqrt(inner).std())
        if not compound:
            assert inner.std() / inner.mean() == pytest.approx(1, abs=0.08)
        else:
            assert inner.std() / inner.mean() == pytest.approx(math.sqrt(0.5), abs=0.07)
    assert ratios[0] == pytest.approx(math.sqrt(math.pi / (4 - math.pi)), rel=0.06)


def test_grain_is_wider_away_from_the_focus():
    settings = PLAIN.with_(focus=0.3)
    grey = scan(plane(), PROBES[0], settings, np.random.default_rng(2))

    def likeness(rows):
        part = grey[rows] - grey[rows].mean(axis=1, keepdims=True)
        return (part[:, 3:] * part[:, :-3]).mean() / (part**2).mean()

    assert likeness(slice(440, 500)) > likeness(slice(140, 190)) + 0.1


def test_bone_shadows_and_fluid_enhances():
    canvas = plane()

    def bone(c):
        c.fill(blob(np.array([0, 50]), (14, 1.5), 0, np.random.default_rng(0)), BONE)

    def fluid(c):
        c.fill(blob(np.array([0, 50]), (18, 15), 0, np.random.default_rng(0)), FLUID)

    middle = np.s_[380:470, BEAMS // 2 - 8 : BEAMS // 2 + 8]
    beside = np.s_[380:470, :30]
    with_bone, without = columns(canvas, bone)
    assert (with_bone[middle] - without[middle]).mean() < -6
    assert abs((with_bone[beside] - without[beside]).mean()) < 1
    with_fluid, without = columns(canvas, fluid)
    assert 1 < (with_fluid[middle] - without[middle]).mean() < 6
    pocket = np.s_[190:235, BEAMS // 2 - 8 : BEAMS // 2 + 8]
    assert (with_fluid[pocket] - without[pocket]).mean() < -20


def test_interfaces_reflect_across_the_beam_and_not_along_it():
    def sheet(angle):
        def paint(c):
            ends = np.array([(-16.0, 0), (16, 0)])
            c.stroke(place(ends, np.array([0, 60]), angle), 1.0, SOFT._replace(impedance=1.4, mottle=0))

        return paint

    across, along = (columns(plane(), sheet(angle), seed=4) for angle in (0, 80))
    window = np.s_[205:310, BEAMS // 2 - 14 : BEAMS // 2 + 14]
    gains = [np.percentile((with_ - without)[window], 98) for with_, without in (across, along)]
    assert gains[0] > gains[1] + 4


def test_scan_conversion_keeps_shapes_and_regions():
    canvas = plane()
    outline = blob(np.array([10.0, 70]), (20, 20), 0, np.random.default_rng(0), wobble=0)
    canvas.fill(outline, FLUID, "AC")
    grey = scan(canvas, PROBES[0], PLAIN, np.random.default_rng(0))
    image, regions, inside = convert(grey, PROBES[0], canvas, (400, 400), 3.0, (200, 20))
    ys, xs = np.nonzero(regions == 1)
    assert (xs.mean(), ys.mean()) == pytest.approx((200 + 30, 20 + 210), abs=1.5)
    assert len(xs) == pytest.approx(math.pi * 60**2, rel=0.02)
    assert image[regions == 1].mean() < 0.7 * image[inside & (regions == 0)].mean()
    assert not image[~inside].any()


def test_a_moved_look_moves_regions_and_measures_together():
    canvas = plane()
    canvas.fill(blob(np.array([5.0, 60]), (22, 15), 10, np.random.default_rng(0), wobble=0), FLUID, "AC")
    canvas.measures.append(Measure("AC", "AC", centre=np.array([5.0, 60]), axes=(22, 15), angle=10))
    canvas.shift(8.0, np.array([3.0, -4.0]))
    ys, xs = np.nonzero(canvas.regions)
    centre = canvas.pixels(canvas.measures[0].centre)
    assert (xs.mean(), ys.mean()) == pytest.approx(tuple(centre), abs=1)
    assert canvas.measures[0].angle == 18
    _, axis = cv2.PCACompute(np.stack([xs, ys], 1).astype(np.float32), None)
    assert abs(axis[0] @ unit(18)) > 0.999


def test_measures_and_growth():
    assert Measure("AC", "AC", centre=np.zeros(2), axes=(10, 10)).value == pytest.approx(20 * math.pi)
    assert Measure("FL", "FL", ends=np.array([(0, 0), (3, 4)])).value == pytest.approx(5)
    for week, (head, belly, thigh) in {20: (46.3, 149.1, 32.7), 30: (75.7, 260.2, 58.4)}.items():  # as in the paper
        assert head_width(week) == pytest.approx(head, abs=1.5)
        assert waist(week) == pytest.approx(belly, abs=3)
        assert femur_length(week) == pytest.approx(thigh, abs=1.5)


def test_a_blend_of_none_is_the_narrow_blur():
    noise = np.random.default_rng(0).standard_normal((SAMPLES, BEAMS), dtype=np.float32)
    narrow = _blurred(noise, (1.0, 3.0), 1.0, np.zeros((SAMPLES, 1), np.float32))
    assert np.array_equal(narrow, cv2.GaussianBlur(noise, (0, 0), 1.0, sigmaY=1.0))


def test_planes_of_many_exams_show_their_organs_and_fit_into_the_labels():
    """No plane has more tissues than labels; organs are found within a few tries."""
    most = 0
    for number in range(25):
        exam = draw_exam(np.random.default_rng([1, number])).wide()
        for organs in (("AC", "FL", "AFI"), ("BPD",), ("BPD", "FL", "AFI")):
            canvas = draw_plane(organs, None, exam, np.random.default_rng(number), np.random.default_rng(0), False)
            assert visible(canvas, exam.probe, organs)
            assert {measure.organ for measure in canvas.measures} == set(organs)
            most = max(most, len(canvas.tissues))
    assert 60 < most < 220
