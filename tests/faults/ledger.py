"""What the faults did: one line each, printed as a table and written to build/faults.json."""

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path

from roboao_assets.storage.files import PARTIAL_PREFIX


@dataclass(frozen=True, kw_only=True)
class Fault:
    """What came of a fault that was tried.

    Attributes
    ----------
    name : str
    tried : int
        How often.
    survived : int
        After how many of these everything that could be made was there in the end.
    told : str
        What the operator sees of it: a sentence of the archive's own, as it stood there.
    products_lost : int
        Products that the catalogue had, or that were made before, and that are gone.
    half_files : int
        Files of the archive that are not whole: see `half_files`.
    others_stopped : int
        Other observations that were not reduced because of it.
    """

    name: str
    tried: int
    survived: int
    told: str
    products_lost: int = 0
    half_files: int = 0
    others_stopped: int = 0


@dataclass
class Ledger:
    """The faults of a session, in the order they were tried."""

    faults: list[Fault] = field(default_factory=list)

    def enter(self, fault: Fault) -> None:
        """Enter a fault; call it before the assertions, so that a loss stands there too."""
        self.faults.append(fault)

    def report(self) -> dict[str, object]:
        """Return the sums and every fault, as JSON holds them."""
        sums = ("tried", "survived", "products_lost", "half_files", "others_stopped")
        return {
            **{name: sum(getattr(fault, name) for fault in self.faults) for name in sums},
            "faults": [asdict(fault) for fault in self.faults],
        }

    def write(self, path: Path) -> None:
        """Write the report."""
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(self.report(), indent=1) + "\n", encoding="utf-8")

    def table(self) -> str:
        """Return a table that a person reads."""
        lines = ["fault                                    tried survived lost half stopped  told"]
        for f in self.faults:
            numbers = f"{f.tried:5d} {f.survived:8d} {f.products_lost:4d} {f.half_files:4d}"
            lines.append(f"{f.name[:40]:40s} {numbers} {f.others_stopped:7d}  {f.told[:110]}")
        report = self.report()
        lines.append(
            f"{len(self.faults)} faults, tried {report['tried']} times, survived "
            f"{report['survived']}; products lost {report['products_lost']}, half files "
            f"{report['half_files']}, other observations stopped {report['others_stopped']}"
        )
        return "\n".join(lines)


def half_files(folders: Iterable[Path]) -> list[Path]:
    """Return the files below `folders` that nobody has finished."""
    return [path for folder in folders for path in folder.rglob(f"{PARTIAL_PREFIX}*")]
