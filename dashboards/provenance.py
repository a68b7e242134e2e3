"""What a product was made of: raw files, calibration, settings, code, and its run.

The references of a subtraction are told elsewhere: not every reader may see their names.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from html import escape
from urllib.parse import quote, urlencode

from astropy.io import fits

from roboao_assets.storage.fits_products import read_product_header
from roboao_assets.storage.served_files import ServedFile

# Asset -> the file whose header tells what it was made of; {id} is the observation.
_TELLING = {
    "bright_star_stack": "bright_star/100p.fits",
    "faint_star_stack": "faint_star/{id}_summed.fits",
    "extended_object": "extended_object/{id}_deconvolved.fits",
    "pca_residual": "bright_star/pca/{id}_pca.fits",
    "faint_star_pca_residual": "faint_star/pca/{id}_pca.fits",
}


@dataclass(frozen=True, kw_only=True)
class Provenance:
    """What the header of a product tells.

    Attributes
    ----------
    asset : str
    raw_files : tuple of (name, sha256)
    calibration : tuple of str
    software, code_version, settings, data_version : str
        Empty where the header does not tell.
    """

    asset: str
    raw_files: tuple[tuple[str, str], ...]
    calibration: tuple[str, ...]
    software: str
    code_version: str
    settings: str
    data_version: str


def read_provenance(files: Mapping[str, ServedFile], observation: str) -> list[Provenance]:
    """Return what the headers of an observation's images tell, in the order of the flow."""
    told = []
    for asset, pattern in _TELLING.items():
        file = files.get(pattern.format(id=observation))
        header = read_product_header(file.path) if file is not None else None
        if header is not None:
            told.append(_of_header(asset, header))
    return told


def _of_header(asset: str, header: fits.Header) -> Provenance:
    names, sums = _numbered(header, "RAW"), _numbered(header, "RSHA")
    data_version = str(header.get("FPRINT", ""))
    return Provenance(
        asset=str(header.get("STAGE", asset)),
        raw_files=tuple((name, sums.get(key, "")) for key, name in names.items()),
        calibration=tuple(_numbered(header, "CAL").values()),
        software=str(header.get("CREATOR", "")),
        code_version=str(header.get("CODEVER") or data_version.partition("-")[0]),
        settings=str(header.get("SETPRINT", "")),
        data_version=data_version,
    )


def _numbered(header: fits.Header, prefix: str) -> dict[str, str]:
    """Values of the cards `prefix` and four digits, by the digits."""
    return {
        key.removeprefix(prefix): str(header[key])
        for key in header
        if key.startswith(prefix) and key.removeprefix(prefix).isdigit()
    }


def provenance_markup(told: list[Provenance], observation: str, dagster_url: str) -> str:
    """Return provenance as a folded part of a page; empty if nothing is told.

    Parameters
    ----------
    told : list of Provenance
    observation : str
    dagster_url : str
        Of Dagster's pages, where each asset of the observation has one.
    """
    if not told:
        return ""
    blocks = "".join(_block(one, observation, dagster_url) for one in told)
    return f'<details class="provenance"><summary>Provenance</summary>{blocks}</details>'


def _block(one: Provenance, observation: str, dagster_url: str) -> str:
    partition = urlencode({"view": "partitions", "partition": observation})
    place = f"{dagster_url}/assets/{quote(one.asset)}?{partition}"
    raw = "".join(
        f'<li>{escape(name)} <code title="SHA-256: {escape(sha)}">{escape(sha[:12])}</code></li>'
        for name, sha in one.raw_files
    )
    rows = [
        ("raw files", f"<ul>{raw}</ul>" if raw else ""),
        ("calibration", escape(", ".join(one.calibration))),
        ("software", escape(f"{one.software}, code version {one.code_version}".strip(", "))),
        ("settings", _code(one.settings)),
        ("data version", _code(one.data_version)),
    ]
    body = "".join(f"<tr><th>{name}</th><td>{value}</td></tr>" for name, value in rows if value)
    return (
        f'<h3 class="table-title">{escape(one.asset)} <a class="beside" href="{escape(place)}">'
        f'in Dagster →</a></h3><table class="header-cards"><tbody>{body}</tbody></table>'
    )


def _code(identity: str) -> str:
    return f"<code>{escape(identity)}</code>" if identity else ""
