"""A night on one screen: a row an observation, from the catalogue."""

from dataclasses import dataclass
from typing import Any

from roboao_assets.storage.catalogue import (
    FAINT_CLASSES,
    Catalogue,
    ObservationQuery,
    leading_pipeline,
    product,
    ran_on,
)

_PARTS = ("", "strehl", "preview", "pca")


@dataclass(frozen=True, kw_only=True)
class NightRow:
    """One observation in the table of its night; None where something is not known.

    Of an observation that only the extended-object pipeline runs on, the class is
    `extended_object`.
    """

    observation: str
    classified_as: str | None
    frames: int | None
    strehl_percent: float | None
    strehl_error_percent: float | None
    strehl_flag: str | None
    seeing_arcsec: float | None
    contrast_1_arcsec_mag: float | None
    status: str
    reasons: tuple[str, ...]

    @property
    def failed(self) -> bool:
        """True if a product that could be made was not."""
        return self.status != "done"


def night_rows(catalogue: Catalogue, night: str) -> list[NightRow]:
    """Return the rows of a night, in time order."""
    query = ObservationQuery(nights=(night,), summary_only=True, sort=("date_utc", True))
    return [_row(document) for document in catalogue.find_observations(query)]


def _row(document: dict[str, Any]) -> NightRow:
    leading = leading_pipeline(document)
    resolved = leading == "extended_object"
    classified_as = product(document, "bright_star").get("classified_as")
    classified_as = leading if resolved else classified_as
    strehl = product(document, f"{leading}.strehl")
    pca = product(document, f"{leading_pipeline(document, 'pca')}.pca")
    reasons, failed = [], classified_as == "failed"
    # That a bright star has no faint-star stack is no news, nor that a planet has only its own.
    news = {
        "bright_star": not resolved,
        "faint_star": classified_as in FAINT_CLASSES,
        "extended_object": resolved or not ran_on(document, "bright_star"),
    }
    for pipeline, told in news.items():
        for part in _PARTS:
            status = _status(document, pipeline, part)
            failed |= bool(status.get("retries"))
            if status.get("reason") and (told or status.get("retries")):
                reasons.append(str(status["reason"]))
    if not classified_as and not failed:
        status_word = "not reduced"
    else:
        status_word = "failed" if failed else "done"
    nearest = (document.get("seeing") or {}).get("nearest") or [None, None]
    return NightRow(
        observation=document["_id"],
        classified_as=classified_as,
        frames=product(document, leading).get("frames"),
        strehl_percent=strehl.get("ratio_percent"),
        strehl_error_percent=strehl.get("ratio_error_percent"),
        strehl_flag=strehl.get("flag"),
        seeing_arcsec=nearest[1],
        contrast_1_arcsec_mag=pca.get("contrast_1_arcsec_mag"),
        status=status_word,
        # The same reason holds back several products: it is told once.
        reasons=tuple(dict.fromkeys(reasons)),
    )


def _status(document: dict[str, Any], pipeline: str, part: str) -> dict[str, Any]:
    record = product(document, f"{pipeline}.{part}".rstrip("."))
    # A preview carries its status itself, any other product below `status`.
    return record if part == "preview" else (record.get("status") or {})
