"""High-contrast imaging: what the pipelines need of PSFs, references and contrast curves.

A stack is prepared (`prepare_psf`), its references chosen from the PSF library
(`choose_references`) and subtracted (`subtract_reference_pca`); the residual is searched
(`detect_candidates`), and the detection limit measured (`contrast_curve`).
"""

from roboao_assets.science.companions import (
    Candidate,
    SignalToNoiseMap,
    detect_candidates,
    snr_map,
)
from roboao_assets.science.contrast import ContrastCurve, contrast_at, contrast_curve
from roboao_assets.science.psf_preparation import PreparedPsf, prepare_psf
from roboao_assets.science.rdi_pca import (
    ReferenceSubtraction,
    choose_references,
    subtract_reference_pca,
)

__all__ = [
    "Candidate",
    "ContrastCurve",
    "PreparedPsf",
    "ReferenceSubtraction",
    "SignalToNoiseMap",
    "choose_references",
    "contrast_at",
    "contrast_curve",
    "detect_candidates",
    "prepare_psf",
    "snr_map",
    "subtract_reference_pca",
]
