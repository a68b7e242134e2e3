"""Products of a night that are not on disk as the catalogue has them."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from roboao_assets.pipelines.redo import RECORD_OF_STAGE
from roboao_assets.storage.catalogue import (
    Catalogue,
    ObservationQuery,
    product,
    psf_candidate_key,
    skip_reason,
)
from roboao_assets.storage.paths import ArchivePaths
from roboao_assets.storage.product_files import is_intact

# Where the records of the night's own products stand in its document.
_NIGHT_SECTIONS = {
    "seeing": "seeing",
    "strehl": "strehl_summary",
    "contrast_curve": "contrast_summary",
    "report": "night_report",
}


@dataclass(frozen=True, kw_only=True)
class BrokenProduct:
    """A product that is to be made again.

    Attributes
    ----------
    subject : str
        The observation, or the night.
    stage, reason : str
    """

    subject: str
    stage: str
    reason: str


def inspect_night(catalogue: Catalogue, paths: ArchivePaths, night: str) -> Iterator[BrokenProduct]:
    """Yield the products of a night whose files are gone or were changed; one a stage."""
    of_night = catalogue.night(night) or {}
    candidates = of_night.get("psf_lib") or {}
    query = ObservationQuery(nights=(night,), summary_only=True)
    for document in catalogue.find_observations(query):
        name = document["_id"]
        records = {
            **_observation_records(document),
            "psf_candidate": candidates.get(psf_candidate_key(name)) or {},
            "distribution_package": _package_record(document),
        }
        yield from _broken(paths, name, iter(records.items()))
    yield from _broken(paths, night, _night_records(of_night))


def _broken(
    paths: ArchivePaths, subject: str, records: Iterator[tuple[str, Mapping[str, Any]]]
) -> Iterator[BrokenProduct]:
    told = set()
    for stage, record in records:
        for file in record.get("products") or ():
            if stage not in told and not is_intact(paths.root, file):
                told.add(stage)
                there = (paths.root / str(file[0])).exists()
                reason = f"{file[0]} was {'changed' if there else 'removed'} on disk"
                yield BrokenProduct(subject=subject, stage=stage, reason=reason)


def _observation_records(document: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    return {
        stage: product(document, name)
        for stage, name in RECORD_OF_STAGE.items()
        # What is no longer made stays as it is, also if somebody removes it.
        if not skip_reason(product(document, name.removesuffix(".contrast")))
    }


def _package_record(document: Mapping[str, Any]) -> dict[str, Any]:
    """The package that is handed out, as the records of other products have their files."""
    record = document.get("distributed") or {}
    if record.get("status") is not True:
        return {}
    identity = [record.get(key) for key in ("size_bytes", "mtime_ns", "sha256")]
    return {"products": [[name, *identity] for name in record.get("location") or ()]}


def _night_records(document: Mapping[str, Any]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    for name, record in ((document.get("calib") or {}).get("masters") or {}).items():
        stage = "master_darks" if name.startswith("dark") else "master_flats"
        yield ("bad_pixel_mask" if name == "bad_pixels" else stage), record
    for section, stage in _NIGHT_SECTIONS.items():
        yield stage, document.get(section) or {}
