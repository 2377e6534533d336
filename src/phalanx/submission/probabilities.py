import csv
import hashlib
from dataclasses import dataclass

import numpy as np

from ..runtime.files import write_text
from ..runtime.sidecar import Sidecar, sidecar_path


@dataclass
class Probabilities:
    images: tuple
    classes: tuple
    head: str
    values: np.ndarray

    def write(self, path, run_hashes=None, key=None, vote=None):
        text = (
            "image_name,"
            + ",".join(self.classes)
            + "\n"
            + "".join(n + "," + ",".join(f"{v:.8f}" for v in row) + "\n" for n, row in zip(self.images, self.values))
        )
        side = Sidecar(hashlib.sha256(text.encode()).hexdigest(), self.classes, {}, run_hashes or {}, vote, key)
        write_text(path, text)
        write_text(sidecar_path(path), side.text())

    @classmethod
    def read(cls, path):
        rows = list(csv.reader(open(path)))
        return cls(
            tuple(r[0] for r in rows[1:]),
            tuple(rows[0][1:]),
            "softmax",
            np.array([[float(v) for v in r[1:]] for r in rows[1:]]),
        )


def is_probabilities(path):
    return open(path).readline().startswith("image_name,")
