"""What a stage says of its work."""

from dataclasses import dataclass, field
from typing import Literal

StageStatus = Literal["done", "unchanged", "skipped", "failed"]


@dataclass(frozen=True, kw_only=True)
class StageOutcome:
    """The end of one stage for one night or observation; picklable, so that workers return it.

    Attributes
    ----------
    stage : str
        Name of the asset.
    status : {'done', 'unchanged', 'skipped', 'failed'}
        ``unchanged``: the product was up to date and was left alone. ``skipped``:
        there was, for a reason that is no error, nothing to make.
    reason : str
        Why it was skipped or failed, a sentence.
    fingerprint : str
        Identity of the inputs (raw data, calibration, settings, code version): the data version.
    metadata : dict
        Figures worth showing beside the asset.
    preview_png : bytes or None
        A small picture of the product.
    seconds : float
        Time it took.
    retryable : bool
        The failure may pass by itself (database, network).
    error_type : str
        Class name of the exception behind a failure.
    """

    stage: str
    status: StageStatus
    reason: str = ""
    fingerprint: str = ""
    metadata: dict[str, str | int | float] = field(default_factory=dict)
    preview_png: bytes | None = None
    seconds: float = 0.0
    retryable: bool = False
    error_type: str = ""

    @property
    def succeeded(self) -> bool:
        """True unless the stage failed."""
        return self.status != "failed"
