"""A change of one document, in words that both homes carry out at once."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from roboao_assets.science.errors import CatalogueError
from roboao_assets.storage.catalogue.values import at_path, plain

_MODIFIED = "last_modified"


class _Missing:
    """Stands for a value that is not there, which None is not."""


MISSING = _Missing()


@dataclass(kw_only=True)
class Change:
    """What is set, removed and counted up in one document, by dotted path.

    Siblings of the paths are left alone; parents that are missing are made. An observation
    id, which holds a dot, is never a part of a path.

    Attributes
    ----------
    assign : dict[str, Any]
        Plain values (see `values.plain`) by path.
    remove : list[str]
        Paths that are gone afterwards.
    increment : dict[str, int]
        Amounts added by path; a missing number counts as 0.
    """

    assign: dict[str, Any] = field(default_factory=dict)
    remove: list[str] = field(default_factory=list)
    increment: dict[str, int] = field(default_factory=dict)

    def apply(self, document: dict[str, Any]) -> None:
        """Carry the change out on `document` itself.

        Raises
        ------
        CatalogueError
            A parent of a path is no mapping; the document may then be half changed.
        """
        for path, value in self.assign.items():
            parent, key = _parent(document, path)
            parent[key] = value
        for path, amount in self.increment.items():
            parent, key = _parent(document, path)
            current = parent.get(key, 0)
            if isinstance(current, bool) or not isinstance(current, int | float):
                raise CatalogueError(
                    f"{path} cannot be counted up: it holds {current!r}, not a number"
                )
            parent[key] = current + amount
        for path in self.remove:
            _remove(document, path.split("."))

    def alters(self, document: Mapping[str, Any]) -> bool:
        """Whether anything of `document` would be another, times of modification aside."""
        told = (item for item in self.assign.items() if item[0].split(".")[-1] != _MODIFIED)
        return (
            bool(self.increment)
            or any(at_path(document, path, default=MISSING) != value for path, value in told)
            or any(at_path(document, path, default=MISSING) is not MISSING for path in self.remove)
        )


def keyed(
    base: str, value: Mapping[str, Any], reserved: set[str], merge: Sequence[str] = ()
) -> dict[str, Any]:
    """Return plain `value` by dotted path below `base`; of `merge`, key by key.

    Raises
    ------
    CatalogueError
        If a key is one of `reserved`.
    """
    value = plain(value, base)
    clash = reserved.intersection(value)
    if clash:
        raise CatalogueError(
            f"{', '.join(sorted(clash))} of {base} is kept by the catalogue itself; leave it out"
        )
    keyed = {f"{base}.{key}": item for key, item in value.items() if key not in merge}
    for key in merge:
        keyed |= {f"{base}.{key}.{inner}": item for inner, item in value.get(key, {}).items()}
    return keyed


def _parent(document: dict[str, Any], path: str) -> tuple[dict[str, Any], str]:
    *parents, key = path.split(".")
    place = document
    for index, part in enumerate(parents):
        place = place.setdefault(part, {})
        if not isinstance(place, dict):
            raise CatalogueError(
                f"{path} cannot be set: {'.'.join(parents[: index + 1])} holds {place!r}, "
                f"not a mapping; remove that value"
            )
    return place, key


def _remove(document: Any, parts: list[str]) -> None:
    for part in parts[:-1]:
        if not isinstance(document, dict) or part not in document:
            return
        document = document[part]
    if isinstance(document, dict):
        document.pop(parts[-1], None)
