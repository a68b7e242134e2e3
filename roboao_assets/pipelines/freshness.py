"""Which inputs a product was made from, and whether it must be made again.

A fingerprint is the SHA-256 of everything that decides a product: the stage and
its code version, its settings, the content of its raw files, and the fingerprints
of the products it was made from. Dagster knows it as the data version.
"""

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

# To be raised by whoever changes what a stage computes: old products become stale.
CODE_VERSIONS: dict[str, str] = {
    "raw_night": "1",
    "master_darks": "1",
    "master_flats": "1",
    "bad_pixel_mask": "1",
    "seeing": "2",
    "bright_star_stack": "3",
    "faint_star_stack": "1",
    "extended_object": "1",
    "astrometric_solution": "1",
    "strehl_ratio": "1",
    "bright_star_preview": "1",
    "pca_residual": "3",
    "contrast_curve": "2",
    "faint_star_strehl_ratio": "1",
    "faint_star_preview": "1",
    "faint_star_pca_residual": "1",
    "faint_star_contrast_curve": "1",
    "psf_candidate": "1",
    "contrast_picture": "1",
    "strehl_summary": "3",
    "contrast_summary": "2",
    "night_report": "1",
}


def fingerprint(stage: str, *parts: object) -> str:
    """Identity of the inputs of `stage`: 64 hexadecimal digits.

    Parameters
    ----------
    stage : str
        Name of the asset, a key of `CODE_VERSIONS`.
    *parts : object
        Whatever decides the product, as values that JSON can hold.
    """
    text = json.dumps([stage, CODE_VERSIONS[stage], *parts], sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()


def product_record(root: Path, stage_fingerprint: str, products: Iterable[Path]) -> dict[str, Any]:
    """What the catalogue keeps of a product: its fingerprint and its files with their sizes."""
    return {
        "fingerprint": stage_fingerprint,
        "products": [[str(p.relative_to(root)), p.stat().st_size] for p in products],
    }


def is_current(record: Mapping[str, Any] | None, stage_fingerprint: str, root: Path) -> bool:
    """True if `record` has this fingerprint and all its files are there in their size."""
    if not record or record.get("fingerprint") != stage_fingerprint:
        return False
    products: Sequence[Sequence[Any]] = record.get("products") or ()
    return all(_has_size(root / name, size) for name, size in products)


def _has_size(path: Path, size: int) -> bool:
    try:
        return path.stat().st_size == size
    except OSError:
        return False
