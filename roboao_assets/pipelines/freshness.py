"""Which inputs a product was made from, and whether it must be made again.

A fingerprint is the code version of the stage and the SHA-256 of everything else that
decides a product: the settings, the content of the raw files, and the fingerprints of the
products it was made from. Dagster knows it as the data version.

Changed inputs make a product anew wherever they are noticed. A new code version does on
demand only (setting `redo_for_new_code`): an update of the software must not, by itself,
make fifty thousand observations be reduced again.
"""

import hashlib
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from roboao_assets.storage.product_files import file_records, is_intact

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
    "contrast_curve": "3",
    "faint_star_strehl_ratio": "1",
    "faint_star_preview": "1",
    "faint_star_pca_residual": "1",
    "faint_star_contrast_curve": "2",
    "psf_candidate": "1",
    "distribution_package": "1",
    "contrast_picture": "1",
    "strehl_summary": "3",
    "contrast_summary": "2",
    "night_report": "1",
}


def fingerprint(stage: str, *parts: object) -> str:
    """Identity of the inputs of `stage`: its code version, a dash, and 64 hexadecimal digits.

    Parameters
    ----------
    stage : str
        Name of the asset, a key of `CODE_VERSIONS`.
    *parts : object
        Whatever decides the product, as values that JSON can hold.
    """
    text = json.dumps([stage, *parts], sort_keys=True, default=str)
    return f"{CODE_VERSIONS[stage]}-{hashlib.sha256(text.encode()).hexdigest()}"


def same_inputs(one: str, other: str) -> bool:
    """Whether two fingerprints differ in the code version of their stage at most."""
    return one.partition("-")[2] == other.partition("-")[2]


def product_record(root: Path, stage_fingerprint: str, products: Iterable[Path]) -> dict[str, Any]:
    """What the catalogue keeps of a product: its fingerprint and its files (`product_files`)."""
    return {"fingerprint": stage_fingerprint, "products": file_records(root, products)}


def kept_fingerprint(
    record: Mapping[str, Any] | None, stage_fingerprint: str, root: Path, *, any_code: bool
) -> str:
    """Fingerprint of the product that `record` tells of, if it need not be made again; else "".

    Parameters
    ----------
    record : mapping or None
        See `product_record`.
    stage_fingerprint : str
        That the product would have if it were made now.
    root : Path
        Of the archive tree.
    any_code : bool
        True: what an older code version made of the same inputs is kept, too.
    """
    made = str((record or {}).get("fingerprint") or "")
    same = same_inputs(made, stage_fingerprint) if any_code else made == stage_fingerprint
    if not record or not made or not same:
        return ""
    intact = all(is_intact(root, file) for file in record.get("products") or ())
    return made if intact else ""
