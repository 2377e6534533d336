"""What can be drawn of an image; see :mod:`..visualize.scene`."""

from ..visualize.scene import BoxScene, LabelScene, MaskScene, Scene, worst_classes

__all__ = ["BoxScene", "LabelScene", "MaskScene", "Scene", "worst_classes"]
