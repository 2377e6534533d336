"""Files, processes, devices and provenance. Only ``device`` and ``distributed`` import torch."""
