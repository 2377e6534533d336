"""What the engine asks of a task. It knows batches, losses, a metric and weights, and nothing of what they mean."""

from typing import NamedTuple


class Outcome(NamedTuple):
    """The metric over all held-out images, by the path of a submission, and the scores as text."""

    value: float
    text: str
