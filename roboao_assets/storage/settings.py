"""Every setting of the archive: one class, environment variables over `roboao.toml`.

Environment variables are named `ROBOAO_<SETTING>`, those of a group
`ROBOAO_<GROUP>__<SETTING>`. The file is `roboao.toml` in the working directory,
or the one that `ROBOAO_CONFIG` names. An unknown key is refused by its name.
"""

import hashlib
import json
import os
import re
import tomllib
from datetime import date, datetime
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    SecretStr,
    ValidationError,
    ValidationInfo,
    field_serializer,
    field_validator,
)
from pydantic_settings import (
    BaseSettings,
    NoDecode,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    TomlConfigSettingsSource,
)

from roboao_assets.science.errors import SettingsError
from roboao_assets.science.instrument import InstrumentProfile, select_profile
from roboao_assets.storage.credentials import check_settings_file, what_is_wrong
from roboao_assets.storage.decision_fields import LIBRARY_REFERENCES
from roboao_assets.storage.decisions import (
    AllOf,
    AnyOf,
    Condition,
    Rule,
    parse_condition,
    plain_condition,
)
from roboao_assets.storage.instruments import load_instruments
from roboao_assets.storage.nap import find_timezone, parse_nap

# Variables of this prefix that are no settings: where the settings file is, and the tests' own.
_NOT_SETTINGS = ("ROBOAO_CONFIG", "ROBOAO_TEST_")
_SQLITE = "sqlite:///"
_FILE = "roboao.toml"


AutoOrNumber = Literal["auto"] | Annotated[int, Field(ge=1)]


class _Group(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    def fingerprint(self) -> str:
        """SHA-256 of the group's values: a product made with other settings is another product."""
        return hashlib.sha256(
            json.dumps(self.model_dump(mode="json"), sort_keys=True).encode()
        ).hexdigest()


class CalibrationSettings(_Group):
    """Master darks and flats."""

    min_dark_files: int = Field(10, ge=1, description="fewer dark files: no calibration")
    min_flat_files: int = Field(5, ge=1, description="fewer flat files: no calibration")
    clip_sigma: float = Field(3.0, gt=0, description="clipping threshold (standard deviations)")
    clip_passes: int = Field(2, ge=1, description="passes of the clipped mean")
    corner_px: int = Field(50, ge=1, description="side of the corner that holds the bias level")
    bad_pixel_sigma: float = Field(8.0, gt=0, description="deviation that makes a pixel bad")


class BrightStarSettings(_Group):
    """The bright-star stack."""

    selections_percent: tuple[int, ...] = Field(
        (20, 100), description="best frames stacked (percent); 100 is always made"
    )
    groups: int = Field(5, ge=3, description="interleaved averages whose median is sum.fits")
    sample_every: int = Field(3, ge=1, description="frames sampled for the class")
    min_sampled_frames: int = Field(20, ge=1, description="fewer sampled frames: zero_flux")
    zero_flux_snr: float = Field(20.0, description="mean SNR below: zero_flux")
    faint_snr: float = Field(100.0, description="mean SNR below: faint")
    snr_aperture_px: int = Field(5, ge=1, description="side of the SNR aperture (raw px)")
    min_flux_fraction: float = Field(
        0.3, ge=0, lt=1, description="frames with less of the median flux are clouded"
    )
    registration_rounds: int = Field(1, ge=1, description="rounds of template refinement")
    short_stacks: int = Field(
        25, ge=0, description="stacks of consecutive frames round a bright star; 0: none"
    )

    @field_validator("selections_percent")
    @classmethod
    def _check_selections(cls, value: tuple[int, ...]) -> tuple[int, ...]:
        if any(not 1 <= v <= 100 for v in value):
            raise ValueError("each selection is a percentage from 1 to 100")
        return tuple(sorted({*value, 100}))


class FaintStarSettings(_Group):
    """The faint-star stack."""

    window_px: int = Field(256, ge=32, description="side of the window registered on (raw px)")
    smoothing_px: float = Field(5.0, gt=0, description="Gaussian smoothing (sigma, raw px)")
    max_move_fraction: float = Field(
        0.8, gt=0, le=1, description="frames that moved further (half-windows) are dropped"
    )
    rounds: int = Field(2, ge=1, description="rounds of template refinement")


class ExtendedObjectSettings(_Group):
    """Resolved objects: their stack and its deconvolution."""

    percent: int = Field(
        20, ge=1, le=100, description="sharpest frames stacked (percent), of the PSF's star too"
    )
    smoothing_px: float = Field(
        2.0, gt=0, description="Gaussian smoothing for the registration (sigma, raw px)"
    )
    min_flux_fraction: float = Field(
        0.3, ge=0, lt=1, description="frames with less of the median flux are clouded"
    )
    rounds: int = Field(2, ge=1, description="rounds of template refinement")
    method: Literal["richardson_lucy", "myopic"] = Field(
        "richardson_lucy", description="myopic: the PSF is improved too; takes minutes"
    )
    most_iterations: int = Field(500, ge=1, description="of Richardson-Lucy: more is a failure")
    total_variation: float = Field(
        0.002, ge=0, lt=0.2, description="weight of Richardson-Lucy's smoothing"
    )
    psf_spread: float = Field(
        0.3, ge=0, description="myopic: doubt about the PSF's transfer function (part of it)"
    )
    psf_half_arcsec: float = Field(1.75, gt=0, description="half side of the PSF")
    min_size_ratio: float = Field(
        1.3, ge=1, description="objects less wide than the PSF times this are not resolved"
    )


class SeeingSettings(_Group):
    """Seeing from AO-off exposures."""

    model: str = Field("moffat", pattern="^(gaussian|moffat)$", description="profile fitted")
    smoothing_px: float = Field(1.0, ge=0, description="Gaussian smoothing (sigma, raw px)")
    standard: bool = Field(
        False, description="the night's seeing is told at the zenith and 500 nm, not as it was"
    )


class HighContrastSettings(_Group):
    """PCA by reference-star differential imaging, contrast curves."""

    references: AutoOrNumber = Field(
        "auto", description="library PSFs used, best correlated first; auto: see the documentation"
    )
    components: AutoOrNumber = Field(
        "auto", description="principal components subtracted; auto: what shows companions best"
    )
    reference_modes: int = Field(
        15, ge=0, description="modes of a library star's short stacks; 0: its whole stack alone"
    )
    annulus_fwhm: float = Field(
        0.0, ge=0, description="width of annuli with components of their own; 0: whole frame"
    )
    highpass: bool = Field(True, description="IUWT high-pass filter before the PCA")
    highpass_coefficient: int = Field(5, ge=1, description="wavelet planes computed")
    highpass_planes: int = Field(2, ge=1, description="finest planes kept (the original's rel.)")
    sigma: float = Field(5.0, gt=0, description="significance of the contrast curve")
    candidate_snr: float = Field(5.0, gt=0, description="signal-to-noise of a candidate")
    max_recentre_px: float = Field(5.0, gt=0, description="larger shift of the centre: failure")


class AstrometrySettings(_Group):
    """World coordinates from field stars."""

    catalogue: str = Field(
        "", description="table of reference stars (FITS, ECSV, Parquet); empty: none"
    )
    gaia: bool = Field(False, description="ask Gaia (network, astroquery) where there is no table")
    max_pointing_error_arcsec: float = Field(
        60.0, gt=0, description="the pointing is not further off than this"
    )
    max_rotation_deg: float = Field(3.0, gt=0, le=180, description="nor the orientation; 180: any")
    max_scale_error: float = Field(0.03, gt=0, lt=0.5, description="nor the scale (relative)")
    allow_flip: bool = Field(False, description="the image may be a mirror image")
    tolerance_arcsec: float = Field(
        0.5, gt=0, description="identified stars agree within this before the fit"
    )
    min_stars: int = Field(4, ge=4, description="fewer identified stars: the pointing alone")
    min_snr: float = Field(7.0, gt=0, description="signal-to-noise of a detected star")
    order: int = Field(2, ge=1, le=3, description="order of an instrument's distortion")


class DistributionSettings(_Group):
    """How the world finds the archive's products."""

    base_url: str = Field(
        "",
        pattern=r"^(https?://\S+)?$",
        description="where the archive tree is served; empty: file URIs",
    )
    authority: str = Field(
        "",
        pattern=r"^([A-Za-z0-9][\w.~*'()+=!-]{2,})?$",
        description="of the IVOA identifiers, as registered; `roboao obscore` needs it",
    )
    collection: str = Field("Robo-AO", min_length=1, description="obs_collection of ObsCore")


class SurveySettings(_Group):
    """The same field in a sky survey, on an observation's page."""

    enabled: bool = Field(True, description="false: nobody is asked for survey images")
    url: str = Field(
        "https://alasky.cds.unistra.fr/hips-image-services/hips2fits",
        pattern=r"^https?://\S+$",
        description="a hips2fits service",
    )
    hips: str = Field(
        "CDS/P/PanSTARRS/DR1/color-z-zg-g", min_length=1, description="survey taken first"
    )
    least_declination_deg: float = Field(
        -30.0, ge=-90, le=90, description="which has nothing further south"
    )
    fallback_hips: str = Field(
        "CDS/P/DSS2/color", min_length=1, description="survey where the first has nothing"
    )
    image_format: Literal["jpg", "png", "fits"] = Field(
        "jpg", description="fits: of surveys in one band, stretched here"
    )
    fields: float = Field(3.0, ge=2, le=5, description="side of the image (fields of the stack)")
    timeout_s: float = Field(15.0, gt=0, le=120, description="longest wait for an answer")
    retry_minutes: float = Field(10.0, ge=0, description="after a failure nobody is asked so long")


class CosmicRaySettings(_Group):
    """Cosmic-ray cleaning (astroscrappy), the original's constants."""

    sigclip: float = 20.0
    sigfrac: float = 0.3
    objlim: float = 5.0
    gain: float = 1.0
    readnoise: float = 6.5
    satlevel: float = 65536.0
    niter: int = 4


# Of planets, moons and asteroids.
_RESOLVED_PROGRAMS = ("24",)
_CLASS = "pipelined.bright_star.classified_as"


class DecisionSettings(_Group):
    """Which observations each pipeline runs on; see `storage/decisions.py`."""

    model_config = ConfigDict(extra="forbid", frozen=True, arbitrary_types_allowed=True)

    bright_star: Condition = Field(
        AllOf((Rule("program", "not in", _RESOLVED_PROGRAMS),)), description="stars"
    )
    faint_star: Condition = Field(
        AllOf((Rule(_CLASS, "in", ("faint", "zero_flux")),)), description="faint stars"
    )
    extended_object: Condition = Field(
        AnyOf((Rule("program", "in", _RESOLVED_PROGRAMS), Rule("no_core", "=", True))),
        description="resolved objects",
    )
    astrometry: Condition = Field(
        AnyOf(
            (
                Rule(_CLASS, "in", ("high_flux", "faint")),
                Rule("pipelined.faint_star.lock_position", "exists"),
            )
        ),
        description="fields with stars",
    )
    pca: Condition = Field(
        AllOf((Rule(LIBRARY_REFERENCES, ">=", 1),)), description="stars with references"
    )
    psf_library: Condition = Field(
        AllOf(
            (
                Rule("program", "not in", _RESOLVED_PROGRAMS),
                Rule(_CLASS, "not in", ("zero_flux", "failed")),
            )
        ),
        description="candidates of the PSF library",
    )

    @field_validator("*", mode="plain")
    @classmethod
    def _parse(cls, value: Any, info: ValidationInfo) -> Condition:
        try:
            return parse_condition(value, f"decisions.{info.field_name}")
        except SettingsError as error:
            raise ValueError(str(error)) from None

    @field_serializer("*")
    def _plain(self, value: Condition) -> dict[str, Any]:
        return plain_condition(value)


class Settings(BaseSettings):
    """All settings of an archive."""

    model_config = SettingsConfigDict(
        env_prefix="ROBOAO_",
        env_nested_delimiter="__",
        extra="forbid",
        frozen=True,
        # What is wrong may be a password.
        hide_input_in_errors=True,
    )

    raw_roots: Annotated[tuple[Path, ...], NoDecode] = Field(
        (), description="folders of raw nights, separated like PATH in the environment"
    )
    archive_root: Path = Field(Path("archive"), description="the archive tree")
    catalogue_url: str = Field(
        "",
        repr=False,
        description="sqlite:///path or mongodb://...; empty: catalogue.sqlite in the archive",
    )
    instruments_file: Path | None = Field(
        None, description="TOML file of a site's own instrument profiles, beside those shipped"
    )
    instrument: str = Field("", description="profile used for all data; empty: by camera and date")
    archiving_start_date: date = Field(date(2012, 1, 1), description="older nights are left alone")
    dask_scheduler: str = Field("", description="address of a Dask scheduler; empty: local cluster")
    worker_files: Literal["mounted", "sent"] = Field(
        "mounted",
        description="sent: the scheduler's workers have neither raw roots nor archive mounted, "
        "and files travel over the scheduler (a MongoDB catalogue is needed)",
    )
    worker_scratch: str = Field(
        "", description="folder on such a worker for files; empty: beside Dask's own"
    )
    workers: int = Field(2, ge=1, description="worker processes of the local cluster")
    threads: int = Field(1, ge=1, description="threads of the kernels in one worker")
    step_executor: Literal["in_process", "dask"] = Field(
        "in_process",
        description="where runs make their steps: themselves, or (dask) each on a worker of "
        "dask_scheduler; a run can choose otherwise (`execution` of its configuration)",
    )
    stage_timeout_s: float = Field(1800.0, gt=0, description="time limit of a stage (s)")
    most_retries: int = Field(
        20, ge=0, description="attempts at a product that failed for a reason that may pass"
    )
    redo_for_new_code: bool = Field(
        False, description="make again, when looked at, what an older version of the code made"
    )
    sensor_interval_s: int = Field(30, ge=5, description="seconds between looks at the raw roots")
    nap: str = Field(
        "", description="HH:MM-HH:MM in which nothing is started, as while observing; empty: none"
    )
    nap_timezone: str = Field("UTC", description="of the nap: UTC, local, or e.g. US/Arizona")
    least_free_gb: float = Field(
        5.0, ge=0, description="free space (GB) on the archive's disk, below: nothing is started"
    )
    keep_run_logs_days: float = Field(
        90.0, ge=0, description="after which Dagster forgets what runs have logged; 0: never"
    )
    end_of_night: str = Field(
        "end_of_night", description="a file of this name in a night's folder: all has arrived"
    )
    most_raw_file_gb: float = Field(
        8.0, gt=0, description="unpacked size (GB) of one raw file, above: it is refused"
    )
    settle_s: float = Field(20.0, ge=0, description="raw files younger than this still arrive")
    dagster_port: int = Field(3000, ge=1, le=65535)
    dagster_webserver: str = Field(
        "",
        pattern=r"^(https?://\S+)?$",
        description="where the archive itself asks Dagster's webserver, with its --path-prefix; "
        "empty: dagster_port of this machine",
    )
    dagster_url: str = Field(
        "", description="Dagster's pages as readers reach them; empty: dagster_port of this machine"
    )
    dashboard_port: int = Field(5006, ge=1, le=65535)
    dashboard_url: str = Field(
        "",
        pattern=r"^(https?://\S+)?$",
        description="the pages as readers reach them; empty: dashboard_port of this machine",
    )
    dashboard_address: str = Field(
        "127.0.0.1",
        pattern=r"^[0-9A-Za-z.:-]+$",
        description="address the dashboard listens to; others than 127.0.0.1 need the origins",
    )
    dashboard_origins: Annotated[tuple[str, ...], NoDecode] = Field(
        (), description="host[:port] as browsers name the dashboard, separated by commas"
    )
    dashboard_behind_tls_proxy: bool = Field(
        False, description="a proxy before the dashboard speaks TLS and alone reaches its port"
    )
    session_hours: float = Field(12.0, gt=0, le=24 * 31, description="after which a login ends")
    download_token_days: float = Field(
        7.0, gt=0, le=366, description="after which the token in a download script ends"
    )
    cookie_secret: SecretStr = Field(
        SecretStr(""), description="signs the sessions; empty: a file in the archive"
    )
    metrics_port: int = Field(
        9464, ge=0, le=65535, description="telemetry for Prometheus on 127.0.0.1; 0: none"
    )

    calibration: CalibrationSettings = CalibrationSettings()
    bright_star: BrightStarSettings = BrightStarSettings()
    faint_star: FaintStarSettings = FaintStarSettings()
    extended_object: ExtendedObjectSettings = ExtendedObjectSettings()
    seeing: SeeingSettings = SeeingSettings()
    high_contrast: HighContrastSettings = HighContrastSettings()
    cosmic_rays: CosmicRaySettings = CosmicRaySettings()
    astrometry: AstrometrySettings = AstrometrySettings()
    decisions: DecisionSettings = DecisionSettings()
    distribution: DistributionSettings = DistributionSettings()
    survey: SurveySettings = SurveySettings()

    @field_validator("raw_roots", mode="before")
    @classmethod
    def _split_like_path(cls, value: Any) -> Any:
        if isinstance(value, str):
            return tuple(Path(part).expanduser() for part in value.split(os.pathsep) if part)
        return value

    @field_validator("dashboard_origins", mode="before")
    @classmethod
    def _split_at_commas(cls, value: Any) -> Any:
        if isinstance(value, str):
            return tuple(part.strip() for part in value.split(",") if part.strip())
        return value

    @field_validator("dashboard_origins")
    @classmethod
    def _check_origins(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for origin in value:
            if not re.fullmatch(r"([0-9A-Za-z.-]+|\[[0-9A-Fa-f:]+\])(:[0-9]{1,5})?", origin):
                raise ValueError(
                    f"{origin!r} is no origin: give host or host:port, without https:// and "
                    f"without *"
                )
        return tuple(origin.lower() for origin in value)

    @field_validator("catalogue_url")
    @classmethod
    def _check_catalogue_url(cls, value: str) -> str:
        if value and not value.startswith(("sqlite:///", "mongodb://", "mongodb+srv://")):
            raise ValueError("must start with sqlite:/// or mongodb://")
        return value

    @field_validator("nap")
    @classmethod
    def _check_nap(cls, value: str) -> str:
        parse_nap(value)
        return value

    @field_validator("nap_timezone")
    @classmethod
    def _check_timezone(cls, value: str) -> str:
        find_timezone(value)
        return value

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Arguments over environment over the file."""
        file = Path(os.environ.get("ROBOAO_CONFIG", _FILE))
        return init_settings, env_settings, TomlConfigSettingsSource(settings_cls, toml_file=file)

    @cached_property
    def resolved_catalogue_url(self) -> str:
        """`catalogue_url`, or the SQLite catalogue in the archive."""
        return self.catalogue_url or f"sqlite:///{self.archive_root.absolute()}/catalogue.sqlite"

    @cached_property
    def resolved_dagster_webserver(self) -> str:
        """`dagster_webserver` without a slash at its end, or `dagster_port` of this machine."""
        return self.dagster_webserver.rstrip("/") or f"http://127.0.0.1:{self.dagster_port}"

    @cached_property
    def resolved_dagster_url(self) -> str:
        """`dagster_url` without a slash at its end, or Dagster's pages of this machine."""
        return self.dagster_url.rstrip("/") or f"http://127.0.0.1:{self.dagster_port}"

    @cached_property
    def resolved_dashboard_url(self) -> str:
        """`dashboard_url` without a slash at its end, or the dashboard of this machine."""
        return self.dashboard_url.rstrip("/") or f"http://127.0.0.1:{self.dashboard_port}"

    @cached_property
    def instruments(self) -> dict[str, InstrumentProfile]:
        """The instrument profiles by name."""
        return load_instruments(self.instruments_file)

    def with_absolute_paths(self) -> "Settings":
        """Return the settings for a process whose working directory may be another."""
        file = self.instruments_file
        catalogue = self.catalogue_url
        if catalogue.startswith(_SQLITE):
            catalogue = _SQLITE + str(Path(catalogue.removeprefix(_SQLITE)).absolute())
        return self.model_copy(
            update={
                "archive_root": self.archive_root.absolute(),
                "raw_roots": tuple(root.absolute() for root in self.raw_roots),
                "instruments_file": file.absolute() if file else None,
                "catalogue_url": catalogue,
            }
        )

    @property
    def most_raw_file_bytes(self) -> int:
        """`most_raw_file_gb` in bytes."""
        return int(self.most_raw_file_gb * 1e9)

    def profile(self, camera: str, utc: datetime) -> InstrumentProfile:
        """Return the profile of `camera` at `utc` (UnknownInstrumentError if there is none)."""
        return select_profile(self.instruments, camera, utc, self.instrument)


_given: list[Settings] = []


def adopt_settings(settings: Settings) -> None:
    """Make `settings` those of this process, whatever its environment and files say.

    For a process that works for another one, on another machine even.
    """
    _given[:] = [settings]


def load_settings(**overrides: Any) -> Settings:
    """Read the settings from the environment and `roboao.toml`.

    A process that has adopted another's (`adopt_settings`) has those.

    Raises
    ------
    SettingsError
        A key is unknown or a value cannot be used; the message names each.
    """
    if _given:
        return _given[0].model_copy(update=overrides)
    known = set(Settings.model_fields)
    for variable in os.environ:
        if variable.startswith("ROBOAO_") and not variable.startswith(_NOT_SETTINGS):
            key = variable.removeprefix("ROBOAO_").split("__")[0].lower()
            if key not in known:
                raise SettingsError(
                    f"the environment variable {variable} is no setting of the archive; "
                    f"the settings are {', '.join(sorted(known))}"
                )
    file = os.environ.get("ROBOAO_CONFIG")
    if file and not Path(file).is_file():
        raise SettingsError(f"ROBOAO_CONFIG names {file}, and there is no such file")
    check_settings_file(Path(file or _FILE))
    try:
        return Settings(**overrides)
    except ValidationError as error:
        problems = "; ".join(what_is_wrong(item) for item in error.errors())
        raise SettingsError(f"settings that cannot be used: {problems}") from None
    except (tomllib.TOMLDecodeError, ValueError) as error:
        raise SettingsError(f"the settings cannot be read: {error}") from error
