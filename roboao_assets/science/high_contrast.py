"""High-contrast imaging: what the pipelines need of PSFs, references and contrast curves.

A stack is prepared (`prepare_psf`), its references chosen from the PSF library
(`choose_references`) and subtracted (`subtract_reference_pca`); the residual is searched
(`detect_candidates`), and the detection limit measured (`contrast_curve`).
"""

from roboao_assets.science.companions import (
    Candidate,
    Detection,
    SignalToNoiseMap,
    detect_candidates,
    snr_map,
)
from roboao_assets.science.contrast import ContrastCurve, contrast_at, contrast_curve
from roboao_assets.science.psf_preparation import (
    PreparedPsf,
    prepare_psf,
    prepare_short_stacks,
)
from roboao_assets.science.rdi_pca import (
    PrincipalComponents,
    ReferenceSubtraction,
    principal_components,
    principal_modes,
    reference_rows,
    subtract_reference_pca,
)
from roboao_assets.science.reference_choice import annulus_that_matters, choose_references
from roboao_assets.science.reference_tuning import TunedSubtraction, tune_subtraction

__all__ = [
    "Candidate",
    "ContrastCurve",
    "Detection",
    "PreparedPsf",
    "PrincipalComponents",
    "ReferenceSubtraction",
    "SignalToNoiseMap",
    "TunedSubtraction",
    "annulus_that_matters",
    "choose_references",
    "contrast_at",
    "contrast_curve",
    "detect_candidates",
    "prepare_psf",
    "prepare_short_stacks",
    "principal_components",
    "principal_modes",
    "reference_rows",
    "snr_map",
    "subtract_reference_pca",
    "tune_subtraction",
]
