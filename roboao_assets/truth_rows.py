"""A row of the truth report."""

import math
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class TruthRow:
    """One quantity.

    Attributes
    ----------
    subject : str
        Observation, exposure or master.
    quantity : str
        With its unit.
    true, measured : float or str or None
        None: there is none.
    error : float
        Distance between them, or what the quantity says of it; NaN if it was not measured.
    goal : float or None
        The error must not be above; None: for information.
    """

    subject: str
    quantity: str
    true: float | str | None
    measured: float | str | None
    error: float
    goal: float | None

    @property
    def passed(self) -> bool:
        """True if the goal is kept, or there is none; what was not measured keeps none."""
        return self.goal is None or self.error <= self.goal


def truth_row(
    subject: str,
    quantity: str,
    true: float | None,
    measured: float | None,
    goal: float | None,
) -> TruthRow:
    """Return the row of a number; its error is the difference, NaN if either is missing."""
    error = math.nan if true is None or measured is None else abs(measured - true)
    return TruthRow(
        subject=subject, quantity=quantity, true=true, measured=measured, error=error, goal=goal
    )
