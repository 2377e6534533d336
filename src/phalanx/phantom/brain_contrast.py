"""Intensities of tissues in the sequences of magnetic resonance imaging, relative to bright fat."""

SEQUENCES = ("T1ce", "T1", "T2", "FLAIR")
_T1CE = {
    "air": 0.008, "bone": 0.07, "diploe": 0.27, "marrow": 0.44, "fat": 0.90, "skin": 0.42, "muscle": 0.30,
    "tongue": 0.31, "csf": 0.10, "grey": 0.30, "white": 0.355, "deep": 0.315, "pallidum": 0.34, "mucosa": 0.52,
    "vessel": 0.74, "dura": 0.50, "vitreous": 0.11, "lens": 0.27, "plexus": 0.55, "gland": 0.60,
    "rim": 0.72, "solid": 0.56, "necrosis": 0.15, "oedema": 0.255, "diffuse": 0.20, "meningioma": 0.66,
    "adenoma": 0.56, "cyst": 0.17, "calcium": 0.12, "vein": 0.58,
}  # fmt: skip
TISSUES: dict[str, dict[str, float]] = {
    "T1ce": _T1CE,
    "T1": _T1CE
    | {
        "grey": 0.30, "white": 0.40, "deep": 0.33, "pallidum": 0.38, "mucosa": 0.34, "vessel": 0.10, "dura": 0.22,
        "plexus": 0.2, "gland": 0.36, "rim": 0.31, "solid": 0.27, "meningioma": 0.22, "adenoma": 0.23,
        "diffuse": 0.20, "oedema": 0.27, "vein": 0.14,
    },
    "T2": _T1CE
    | {
        "bone": 0.035, "diploe": 0.20, "marrow": 0.33, "fat": 0.62, "skin": 0.33, "muscle": 0.15, "tongue": 0.22,
        "csf": 0.95, "grey": 0.42, "white": 0.29, "deep": 0.35, "pallidum": 0.25, "mucosa": 0.75, "vessel": 0.05,
        "dura": 0.12, "vitreous": 0.98, "lens": 0.18, "plexus": 0.75, "gland": 0.42, "rim": 0.50, "solid": 0.58,
        "necrosis": 0.88, "oedema": 0.68, "diffuse": 0.70, "meningioma": 0.70, "adenoma": 0.66, "cyst": 0.9,
        "calcium": 0.1, "vein": 0.15,
    },
    "FLAIR": _T1CE
    | {
        "bone": 0.045, "diploe": 0.22, "marrow": 0.36, "fat": 0.70, "skin": 0.38, "muscle": 0.24, "tongue": 0.27,
        "csf": 0.075, "grey": 0.46, "white": 0.37, "deep": 0.41, "pallidum": 0.36, "mucosa": 0.62, "vessel": 0.07,
        "dura": 0.18, "vitreous": 0.09, "lens": 0.2, "plexus": 0.3, "gland": 0.45, "rim": 0.70, "solid": 0.72,
        "necrosis": 0.30, "oedema": 0.80, "diffuse": 0.74, "meningioma": 0.72, "adenoma": 0.70, "cyst": 0.25,
        "calcium": 0.12, "vein": 0.2,
    },
}  # fmt: skip
