"""What a fault has cost: products that are gone, files that are not whole, what stays held."""

import hashlib
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from archive_deployment import NIGHT, Deployment, images
from astropy.io import fits
from astropy.utils.exceptions import AstropyWarning
from ledger import half_files

from roboao_assets.pipelines.context import CLAIM
from roboao_assets.storage.catalogue import ObservationQuery, open_catalogue, product


@dataclass(frozen=True, kw_only=True)
class Losses:
    """Names of what was lost, is half, or was stopped."""

    lost: list[str]
    half: list[str]
    stopped: list[str]

    def __bool__(self) -> bool:
        return bool(self.lost or self.half or self.stopped)


def losses(deployment: Deployment, undisturbed: Path) -> Losses:
    """Compare the night with that of an archive that nothing has disturbed."""
    expected, made = images(undisturbed), images(deployment.archive)
    lost = [name for name in expected if made.get(name) != expected[name]]
    lost += [name for name in made if name not in expected]
    with open_catalogue(deployment.url, read_only=True) as catalogue:
        documents = catalogue.find_observations(ObservationQuery(nights=(NIGHT,)))
        held = [d["_id"] for d in documents if catalogue.claimant(d["_id"], CLAIM)]
    stopped = [d["_id"] for d in documents if not product(d, "bright_star")["status"].get("done")]
    unpacked = [d["_id"] for d in documents if not d["distributed"].get("status")]
    half = [str(path) for path in half_files([deployment.archive])]
    return Losses(
        lost=lost + [f"the package of {name}" for name in unpacked],
        half=half + not_whole(deployment, exact=True),
        stopped=stopped + [f"{name} is claimed" for name in held],
    )


def not_whole(deployment: Deployment, *, exact: bool) -> list[str]:
    """Return what documents say is made and is not there whole, and images that are torn.

    After a kill a document may be of before and its image of after (the world coordinates are
    entered later), both of them whole: `exact` asks for the very file that the document has.
    """
    found = []
    if "sqlite" in deployment.url and not Path(deployment.url.removeprefix("sqlite://")).exists():
        return found
    with open_catalogue(deployment.url, read_only=True) as catalogue:
        documents = list(catalogue.find_observations(ObservationQuery(nights=(NIGHT,))))
        documents.append(catalogue.night(NIGHT) or {})
    for name, size, _, digest in (r for d in documents for r in _records(d)):
        path = deployment.archive / name
        there = path.read_bytes() if path.exists() else b""
        same = hashlib.sha256(there).hexdigest() == digest
        if not there or (not same and (exact or path.suffix != ".fits")):
            found.append(f"{name}: {len(there)} of {size} bytes")
    torn = [path for path in (deployment.archive / NIGHT).rglob("*.fits") if _is_torn(path)]
    return found + [str(path) for path in torn]


def _is_torn(path: Path) -> bool:
    with warnings.catch_warnings():
        # Of a file cut short, and of data that are not those of their checksum, astropy warns.
        warnings.simplefilter("error")
        try:
            with fits.open(path, lazy_load_hdus=False, checksum=True) as units:
                units.verify("exception")
        except (OSError, fits.VerifyError, AstropyWarning):
            return True
    return False


def _records(value: Any) -> Iterator[list[Any]]:
    if isinstance(value, dict):
        for key, inner in value.items():
            if key == "products" and isinstance(inner, list):
                yield from inner
            else:
                yield from _records(inner)
