"""What a home of the catalogue must be able to do with documents, and nothing more."""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Self

from roboao_assets.science.errors import CatalogueError
from roboao_assets.storage.catalogue.change import Change
from roboao_assets.storage.catalogue.conditions import Condition
from roboao_assets.storage.catalogue.query import Cone

OBJECTS, NIGHTS, USERS = "objects", "aux", "users"
REQUESTS, HISTORY, COMMENTS = "requests", "history", "comments"
# All that holds documents of the archive; claims are of the moment.
COLLECTIONS = (OBJECTS, NIGHTS, USERS, REQUESTS, HISTORY, COMMENTS)

# Clocks of the machines of an archive differ by less. A claim that was taken later than this
# from now was taken by a clock that was wrong: it would last until then.
CLOCK_DIFFERENCE_S = 300.0


@dataclass(frozen=True, kw_only=True)
class ImageRow:
    """An image as a home keeps it."""

    key: str
    night: str
    observation: str | None
    png: bytes


@dataclass(frozen=True, kw_only=True)
class NightSummary:
    """A night in the list of nights.

    Attributes
    ----------
    night : str
        UT date, YYYYMMDD.
    observations : int
    seeing_median : float or None
        Arcsec.
    done, failed : int
        Observations with a stack as a bright star or as a resolved object; those without, of
        which the last attempt at one failed.
    """

    night: str
    observations: int
    seeing_median: float | None
    done: int
    failed: int


class DocumentHome(ABC):
    """A place that keeps documents and images, and changes each of them atomically."""

    def __init__(self, url: str, *, read_only: bool) -> None:
        self._url = url
        self.read_only = read_only
        # Documents (collection, id) changed by this object: their copies are to be renewed.
        self.changed: set[tuple[str, str]] = set()

    def __enter__(self) -> Self:
        """Return the catalogue itself."""
        return self

    def __exit__(self, *exception: object) -> None:
        """Close the catalogue."""
        self.close()

    def _check_writable(self) -> None:
        if self.read_only:
            raise CatalogueError("the catalogue was opened for reading only; it was not changed")

    @abstractmethod
    def image(self, key: str) -> bytes | None:
        """Return the image of a key, None if there is none."""

    @abstractmethod
    def image_keys(self, *, night: str | None = None, observation: str | None = None) -> list[str]:
        """Return the keys of the images of a night or observation (or all), in order."""

    @abstractmethod
    def documents_after(self, collection: str, after: str, limit: int) -> list[dict[str, Any]]:
        """Return the next `limit` documents of a collection by `_id`, as they stand there."""

    @abstractmethod
    def images_after(self, after: str, limit: int) -> list[ImageRow]:
        """Return the next `limit` images by key."""

    @abstractmethod
    def enter_documents(self, collection: str, documents: Sequence[dict[str, Any]]) -> None:
        """Enter documents of a backup; CatalogueError if one is there already."""

    @abstractmethod
    def enter_images(self, rows: Sequence[ImageRow]) -> None:
        """Enter images of a backup; one that is there is replaced."""

    @property
    @abstractmethod
    def url(self) -> str:
        """The URL, without any password: fit for a log."""

    @abstractmethod
    def close(self) -> None:
        """Close the connections; calling it again does nothing."""

    @abstractmethod
    def _insert(self, collection: str, document: dict[str, Any]) -> bool:
        """Insert a document; False if its `_id` is there already."""

    @abstractmethod
    def _get(self, collection: str, identifier: str) -> dict[str, Any] | None: ...

    @abstractmethod
    def _get_many(self, identifiers: Sequence[str], summary_only: bool) -> list[dict[str, Any]]:
        """Return observations in the order of `identifiers`; those gone meanwhile are left out."""

    @abstractmethod
    def _all(self, collection: str) -> list[dict[str, Any]]:
        """Return every document, by `_id`."""

    @abstractmethod
    def _update(
        self,
        collection: str,
        identifier: str,
        change: Change,
        *,
        upsert: bool = False,
        returning: str = "",
        where: tuple[str, Any] | None = None,
    ) -> Any:
        """Change one document atomically.

        Parameters
        ----------
        where : (str, Any) or None
            Path and the value that must stand there, else nothing is changed.

        Returns
        -------
        Any
            None if there is no such document (and `upsert` is False); else the value then at
            the path `returning`, or True.
        """

    @abstractmethod
    def _delete(
        self, collection: str, identifier: str, *, where: tuple[str, Any] | None = None
    ) -> bool: ...

    @abstractmethod
    def _newest(
        self, collection: str, subject: str | None, limit: int, *, before: str = ""
    ) -> list[dict[str, Any]]:
        """Return the documents with the greatest `_id`, of one `subject` or of all.

        With `before` only of those whose `_id` is smaller.
        """

    @abstractmethod
    def _nights_without(self, section: str) -> list[str]:
        """Return the nights whose document has no such section."""

    @abstractmethod
    def _nights_with(self, section: str) -> list[str]:
        """Return the nights whose document has such a section that is done."""

    @abstractmethod
    def _select(
        self,
        conditions: Sequence[Condition],
        *,
        sort: tuple[str, bool],
        skip: int,
        limit: int,
        summary_only: bool,
    ) -> list[dict[str, Any]]:
        """Return documents, sorted by a field; what has no value of its kind comes last."""

    @abstractmethod
    def _select_fields(
        self,
        conditions: Sequence[Condition],
        *,
        fields: Sequence[str],
        sort: tuple[str, bool],
        skip: int,
        limit: int,
    ) -> list[tuple[Any, ...]]:
        """Return fields (of `FIELD_PATHS`) alone: of a list its length, None for what is not."""

    @abstractmethod
    def _count(self, conditions: Sequence[Condition]) -> int: ...

    @abstractmethod
    def _inside(
        self, conditions: Sequence[Condition], cone: Cone, sort: tuple[str, bool]
    ) -> Sequence[str]:
        """Return the ids of matches inside a cone, sorted by a field or by `separation`."""

    @abstractmethod
    def _night_rows(self, conditions: Sequence[Condition]) -> Iterable[NightSummary]:
        """Return the nights of the observations that meet the conditions."""

    @abstractmethod
    def _night_seeing(self) -> Iterable[tuple[str, Any]]:
        """Return (night, seeing.median) of every night's document."""

    @abstractmethod
    def _put_image(self, key: str, png: bytes, night: str, observation: str | None) -> None: ...

    @abstractmethod
    def _claim(self, key: str, owner: str, ttl_s: float) -> bool:
        """Take a claim; False while another's is valid: not run out, and not of the future."""

    @abstractmethod
    def _claimant(self, key: str) -> str | None:
        """Return the owner of a valid claim, None if there is none."""

    @abstractmethod
    def _release(self, key: str, owner: str) -> bool: ...
