"""Where everything stands in the archive tree. No other module joins path names."""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class ArchivePaths:
    """The archive tree below `root`: every path is derived here.

    Nights are `YYYYMMDD`, observations their id, pipelines `bright_star`,
    `faint_star` or `extended_object`.
    """

    root: Path

    @property
    def manifest(self) -> Path:
        """Nights and their observations, in time order: what Dagster's partitions are made from."""
        return self.root / "manifest.json"

    @property
    def psf_library(self) -> Path:
        """The PSF library: a cube and a table."""
        return self.root / "psf_library.fits"

    @property
    def cookie_secret(self) -> Path:
        """What the dashboard signs sessions with; readable by its owner alone."""
        return self.root / ".dashboard" / "cookie_secret"

    def distortion(self, telescope: str, night: str) -> Path:
        """Distortion solution of a telescope's camera from a night on (ECSV)."""
        return self.root / "astrometry" / f"{telescope}_{night}.ecsv"

    def distortion_plot(self, telescope: str, night: str) -> Path:
        """Residuals of that solution."""
        return self.distortion(telescope, night).with_suffix(".png")

    def night(self, night: str) -> Path:
        """Folder of a night."""
        return self.root / night

    def night_record(self, night: str) -> Path:
        """Copy of the night's document of the catalogue."""
        return self.night(night) / "records" / f"{night}.json"

    def observation_record(self, night: str, observation: str) -> Path:
        """Copy of an observation's document of the catalogue."""
        return self.night(night) / "records" / f"{observation}.json"

    def comments_record(self, night: str, observation: str) -> Path:
        """Copy of the comments on an observation."""
        return self.night(night) / "records" / "comments" / f"{observation}.json"

    def master_dark(self, night: str, mode: str) -> Path:
        """Master dark of a mode key: `0`, `6`..`10`, or those with `4` appended (quarter frame)."""
        return self.night(night) / "calib" / f"dark_{mode}.fits"

    def master_flat(self, night: str, filter_name: str) -> Path:
        """Master flat of a filter, full frame."""
        return self.night(night) / "calib" / f"flat_{filter_name}.fits"

    def bad_pixel_mask(self, night: str) -> Path:
        """Bad-pixel mask, full frame (uint8, 1 = bad)."""
        return self.night(night) / "calib" / "bad_pixels.fits"

    def observation(self, night: str, observation: str) -> Path:
        """Folder of an observation."""
        return self.night(night) / observation

    def package(self, night: str, observation: str) -> Path:
        """All products of an observation in one file, for distribution."""
        return self.observation(night, observation) / f"{observation}.tar.bz2"

    def pipeline(self, night: str, observation: str, pipeline: str) -> Path:
        """Folder of a pipeline's products of an observation."""
        return self.observation(night, observation) / pipeline

    def stack(self, night: str, observation: str, percent: int) -> Path:
        """Bright-star stack of the best `percent` of the frames."""
        return self.pipeline(night, observation, "bright_star") / f"{percent}p.fits"

    def stack_weight(self, night: str, observation: str, percent: int) -> Path:
        """Weight map of the stack of the best `percent` of the frames."""
        return self.pipeline(night, observation, "bright_star") / f"{percent}p_weight.fits"

    def frame_psfs(self, night: str, observation: str) -> Path:
        """The guide star in some single frames, the sharpest first."""
        return self.pipeline(night, observation, "bright_star") / "psfs.fits"

    def short_stacks(self, night: str, observation: str) -> Path:
        """A bright guide star in stacks of consecutive frames."""
        return self.pipeline(night, observation, "bright_star") / "short_stacks.fits"

    def quick_look(self, night: str, observation: str) -> Path:
        """The guide star's shift-and-add of a sample of the frames."""
        return self.pipeline(night, observation, "bright_star") / "quick_look.fits"

    def faint_star_sum(self, night: str, observation: str, kind: str) -> Path:
        """Faint-star stack of `kind` `summed`, `summed_weight` or `simple_sum`."""
        return self.pipeline(night, observation, "faint_star") / f"{observation}_{kind}.fits"

    def shifts_table(self, night: str, observation: str) -> Path:
        """`shifts.txt`."""
        return self.pipeline(night, observation, "faint_star") / "shifts.txt"

    def extended_object(self, night: str, observation: str, kind: str) -> Path:
        """Image of a resolved object of `kind` `stack` or `deconvolved`."""
        return self.pipeline(night, observation, "extended_object") / f"{observation}_{kind}.fits"

    def extended_shifts_table(self, night: str, observation: str) -> Path:
        """`shifts.txt` of a resolved object: where each frame stands and how sharp it is."""
        return self.pipeline(night, observation, "extended_object") / "shifts.txt"

    def stack_sum(self, night: str, observation: str) -> Path:
        """Median of the interleaved averages, raw pixels."""
        return self.pipeline(night, observation, "bright_star") / "sum.fits"

    def frames_table(self, night: str, observation: str) -> Path:
        """`frames.txt`."""
        return self.pipeline(night, observation, "bright_star") / "frames.txt"

    def sorted_table(self, night: str, observation: str) -> Path:
        """`sorted.txt`."""
        return self.pipeline(night, observation, "bright_star") / "sorted.txt"

    def preview(self, night: str, observation: str, pipeline: str, kind: str) -> Path:
        """Preview of `kind` `full` or `cropped`; of a resolved object also `deconvolved`."""
        folder = self.pipeline(night, observation, pipeline) / "preview"
        return folder / f"{observation}_{kind}.png"

    def strehl_table(self, night: str, observation: str, pipeline: str) -> Path:
        """Strehl text file."""
        folder = self.pipeline(night, observation, pipeline) / "strehl"
        return folder / f"{observation}_strehl.txt"

    def strehl_box(self, night: str, observation: str, pipeline: str) -> Path:
        """The box that the Strehl ratio was measured in."""
        folder = self.pipeline(night, observation, pipeline) / "strehl"
        return folder / f"{observation}_box.fits"

    def pca(self, night: str, observation: str, pipeline: str, name: str) -> Path:
        """High-contrast product `name`: `pca.fits`, `pca.png`, `contrast_curve.txt`, ..."""
        return self.pipeline(night, observation, pipeline) / "pca" / f"{observation}_{name}"

    def astrometry(self, night: str, observation: str, pipeline: str, name: str) -> Path:
        """Astrometric product `name`: `stars.ecsv`, `wcs.fits`."""
        folder = self.pipeline(night, observation, pipeline) / "astrometry"
        return folder / f"{observation}_{name}"

    def seeing_preview(self, night: str, exposure: str) -> Path:
        """Preview of an AO-off exposure and its fit."""
        return self.night(night) / "summary" / "seeing" / f"{exposure}.png"

    def seeing_table(self, night: str) -> Path:
        """`seeing.YYYYMMDD.txt`."""
        return self.night(night) / "summary" / "seeing" / f"seeing.{night}.txt"

    def seeing_plot(self, night: str) -> Path:
        """`seeing.YYYYMMDD.png`."""
        return self.night(night) / "summary" / "seeing" / f"seeing.{night}.png"

    def seeing_details(self, night: str) -> Path:
        """Every AO-off exposure with errors, both models and what was rejected (ECSV)."""
        return self.night(night) / "summary" / "seeing" / f"seeing.{night}.ecsv"

    def seeing_movie(self, night: str) -> Path:
        """The AO-off exposures one after the other (animated PNG)."""
        return self.night(night) / "summary" / "seeing" / f"seeing_frames.{night}.png"

    def summary_plot(self, night: str, kind: str) -> Path:
        """Night plot of `kind` `strehl` or `contrast_curve`."""
        return self.night(night) / "summary" / f"{kind}.{night}.png"

    def night_report(self, night: str) -> Path:
        """The night on one page (HTML)."""
        return self.night(night) / "summary" / f"report.{night}.html"

    def summary_table(self, night: str, kind: str) -> Path:
        """Night table: `strehl`, `contrast_curve` (quartiles), `contrast_curves` (every curve)."""
        return self.night(night) / "summary" / f"{kind}.{night}.ecsv"

    def psf_candidate(self, night: str, observation: str, suffix: str) -> Path:
        """PSF-library candidate of an observation (`suffix` `fits` or `png`)."""
        return self.night(night) / "summary" / "psflib" / f"{observation}.{suffix}"
