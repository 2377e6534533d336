from .base import Strict


class ClassifyLoss(Strict):
    name: str


class Mix(Strict):
    p: float = 0.0
