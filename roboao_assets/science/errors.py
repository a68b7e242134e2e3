"""The error tree of the archive.

Every message is a sentence an operator can act on: what was looked for, where,
what was there, what to do. Which of them is worth a retry is decided in one
place, `roboao_assets.orchestration.failures`.
"""


class ArchiveError(Exception):
    """Anything that this project raises on purpose."""


class ScienceError(ArchiveError):
    """The data do not hold what the measurement needs."""


class NoStarError(ScienceError):
    """No star was found where one was looked for."""


class FitFailedError(ScienceError):
    """A model fit did not converge, or converged on values outside their bounds."""


class OutsideOfDataError(ScienceError):
    """What is to be measured lies, in too large a part, where there are no data."""


class NotEnoughFramesError(ScienceError):
    """There are fewer frames than the algorithm needs."""


class NoReferencesError(ScienceError):
    """The PSF library has no usable reference for the observation."""


class RawDataError(ArchiveError):
    """A raw file cannot be used: truncated, empty, not FITS, of another shape, not finite."""


class CalibrationMissingError(ArchiveError):
    """The calibration that the data need is not there."""


class UnknownInstrumentError(ArchiveError):
    """The camera, filter or mode of an observation is in no instrument profile."""


class CatalogueError(ArchiveError):
    """The catalogue refused or could not do what it was asked for."""


class CatalogueUnavailableError(CatalogueError):
    """The catalogue could not be reached; the same call may work later."""


class TransferError(ArchiveError):
    """A file could not be brought to a worker or taken from it; it may work later."""


class SettingsError(ArchiveError):
    """A setting is unknown or has a value that cannot be used."""


class PasswordError(ArchiveError):
    """A password that cannot be taken."""
