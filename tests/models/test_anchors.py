"""Anchors: fitted to boxes, laid out over maps."""

import numpy as np
import torch
from torchvision.models.detection.image_list import ImageList

from phalanx.models.anchors import Anchors, fit_anchors, shape_iou


def test_fitted_anchors_are_those_of_the_clusters():
    rng = np.random.default_rng(0)
    kinds = np.array([[10.0, 20.0], [30.0, 12.0], [60.0, 60.0]])
    sides = np.concatenate([kind * rng.lognormal(0, 0.05, (50, 2)) for kind in kinds])
    found = fit_anchors(sides, 3)
    assert np.abs(found / kinds[np.argsort(kinds.prod(1))] - 1).max() < 0.05
    assert np.array_equal(found, fit_anchors(sides, 3))
    assert shape_iou(sides, found).max(1).mean() > shape_iou(sides, fit_anchors(sides, 2)).max(1).mean()


def test_fewer_shapes_than_anchors_are_no_fault():
    found = fit_anchors(np.array([[4.0, 8.0]]), 6)
    assert found.shape == (6, 2)
    assert (shape_iou(np.array([[4.0, 8.0]]), found) > 0.7).all()
    assert (np.diff(found.prod(1)) >= 0).all()


def test_anchors_are_about_the_centres_of_the_places():
    shapes = [[[4.0, 8.0], [6.0, 6.0]], [[16.0, 10.0], [20.0, 20.0]]]
    made = Anchors(shapes)
    images = torch.zeros(3, 1, 32, 64)
    frames = ImageList(images, [(32, 64)] * 3)
    found = made(frames, [torch.zeros(3, 5, 4, 8), torch.zeros(3, 5, 2, 4)])
    assert len(found) == 3
    assert found[0].shape == (4 * 8 * 2 + 2 * 4 * 2, 4)
    assert found[0][0].tolist() == [2, 0, 6, 8]  # of the first place, whose centre is 4, 4
    assert found[0][1].tolist() == [1, 1, 7, 7]
    assert found[0][2].tolist() == [10, 0, 14, 8]  # along a row first
    centres = (found[0][:, :2] + found[0][:, 2:]) / 2
    assert centres.mean(0).tolist() == [32, 16]  # symmetric, as flips need
    assert list(made.state_dict()) == ["shapes"]  # weights bring their anchors
