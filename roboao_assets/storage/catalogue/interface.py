"""The catalogue's interface: what the archive does with it, in the archive's own words.

The meaning of every method is stated once, here. A home only keeps documents: it inserts,
reads, selects and changes them atomically (`base.DocumentHome`).
"""

from collections.abc import Mapping, Sequence
from typing import Any

from roboao_assets.science.errors import CatalogueError
from roboao_assets.storage.catalogue.actions import ActionBook
from roboao_assets.storage.catalogue.base import NIGHTS, OBJECTS, NightSummary
from roboao_assets.storage.catalogue.change import MISSING, Change, keyed
from roboao_assets.storage.catalogue.comments import CommentBook
from roboao_assets.storage.catalogue.documents import PIPELINES, status_path
from roboao_assets.storage.catalogue.query import Reader, night_bounds
from roboao_assets.storage.catalogue.requests import RequestBook
from roboao_assets.storage.catalogue.searches import ObservationSearches
from roboao_assets.storage.catalogue.users import UserBook
from roboao_assets.storage.catalogue.values import at_path, now_utc, plain

# What a raw file says of its observation, and nobody else: renewed when it is read again.
RAW_FACTS = (
    "name",
    "science_program.program_id",
    "date_utc",
    "telescope",
    "camera",
    "filter",
    "marker",
    "exposure",
    "magnitude",
    "coordinates",
    "fits_header",
    "raw_data.location",
    "raw_data.data",
)
# Products below a product are published on their own, so that they do not replace each other.
_RESERVED_KEYS = {"status", "last_modified", "preview", "strehl", "pca"}
_PARTS = ("preview", "strehl", "pca", "pca.preview", "pca.contrast_picture", "astrometry")
_DISTRIBUTED_RESERVED_KEYS = {"status", "location", "reason", "retries", "last_modified"}
_PREVIEW_RESERVED_KEYS = {
    "done",
    "force_redo",
    "retries",
    "reason",
    "failed_with",
    "enqueued",
    "last_modified",
}


class Catalogue(ObservationSearches):
    """The catalogue of an archive; get one from `open_catalogue`.

    Documents are given and returned as dicts with aware UTC times in whole milliseconds; what
    is returned is the caller's own copy. Every change is atomic and on disk when its method
    returns; one that says nothing new leaves the times of modification alone. Methods raise
    CatalogueUnavailableError where the home cannot be reached in time (the call may be
    repeated), and CatalogueError where it refuses.
    """

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle by the URL: the reader opens connections of its own."""
        return _reopen, (self._url, self.read_only)

    # -- observations ------------------------------------------------------------------------

    def register_observation(self, document: Mapping[str, Any]) -> bool:
        """Enter an observation, or renew what its raw files say of it.

        Of an observation that is there already only the raw facts (`RAW_FACTS`) are renewed;
        products, distribution, comment and the program's PIs are nobody's but their owners'.

        Parameters
        ----------
        document : mapping
            See `documents.new_observation`.

        Returns
        -------
        bool
            True if it was not there before.
        """
        self._check_writable()
        new = plain(document)
        identifier = new.get("_id")
        if not isinstance(identifier, str) or not identifier:
            raise CatalogueError("an observation's document has its id as _id; this one has none")
        self.changed.add((OBJECTS, identifier))
        if self._insert(OBJECTS, new):
            return True
        present = self._get(OBJECTS, identifier) or {}
        change = Change()
        for path in RAW_FACTS:
            value = at_path(new, path, default=MISSING)
            if value is not MISSING and value != at_path(present, path, default=MISSING):
                change.assign[path] = value
        if change.assign:
            change.assign["raw_data.last_modified"] = now_utc()
            self._update(OBJECTS, identifier, change)
        return False

    def restore(self, document: Mapping[str, Any], *, is_night: bool) -> bool:
        """Enter a document as it is, of an observation or a night; False if it is there."""
        self._check_writable()
        return self._insert(NIGHTS if is_night else OBJECTS, plain(document))

    def observation(self, identifier: str) -> dict[str, Any] | None:
        """Return an observation's document, None if there is none."""
        return self._get(OBJECTS, identifier)

    def publish(
        self, identifier: str, product: str, value: Mapping[str, Any], *, done: bool = True
    ) -> None:
        """Hang a product in an observation's document.

        The keys of `value` are set under ``pipelined.<product>``, other keys there stay; the
        status becomes done, without retries or a reason. A wish to be redone stays: it may be
        of this moment (see `take_wish`).

        Parameters
        ----------
        identifier : str
        product : str
            E.g. ``bright_star``, ``bright_star.strehl``, ``bright_star.pca``,
            ``bright_star.preview``, ``faint_star.pca.preview``.
        value : mapping
            Each key replaces what stood there, whole.
        done : bool
            False keeps the product open: something of it is known, but it is not finished.
        """
        base, status = self._product_paths(product)
        gone = [f"{status}.reason", f"{status}.failed_with"]
        change = Change(assign={f"{base}.last_modified": now_utc()}, remove=gone)
        reserved = _PREVIEW_RESERVED_KEYS if status == base else _RESERVED_KEYS
        change.assign |= keyed(base, value, reserved)
        change.assign |= {
            f"{status}.done": done,
            f"{status}.enqueued": False,
            f"{status}.retries": 0,
        }
        self._change_observation(identifier, change, f"publishing {product}")

    def record_failure(
        self, identifier: str, product: str, reason: str, *, failed_with: str = ""
    ) -> int:
        """Note that making a product failed, and why.

        Parameters
        ----------
        identifier, product, reason : str
        failed_with : str
            Identity of the inputs with which it can only fail again.

        Returns
        -------
        int
            Failures in a row, this one included.
        """
        base, status = self._product_paths(product)
        change = Change(
            assign={
                f"{status}.done": False,
                f"{status}.enqueued": False,
                f"{status}.reason": plain(reason),
                f"{status}.failed_with": failed_with,
                f"{base}.last_modified": now_utc(),
            },
            increment={f"{status}.retries": 1},
        )
        returning = f"{status}.retries"
        return self._change_observation(identifier, change, f"failing {product}", returning)

    def record_skip(self, identifier: str, product: str, reason: str) -> None:
        """Note that a product was not made for a good reason, which is no failure.

        An earlier value of the product stays; the status is open, with the reason, without
        retries.
        """
        base, status = self._product_paths(product)
        change = Change(
            assign={
                f"{status}.done": False,
                f"{status}.enqueued": False,
                f"{status}.retries": 0,
                f"{status}.reason": plain(reason),
                f"{base}.last_modified": now_utc(),
            },
            # An earlier failure tells nothing once the product is left alone.
            remove=[f"{status}.failed_with"],
        )
        self._change_observation(identifier, change, f"skipping {product}")

    def request_redo(self, identifier: str, product: str) -> None:
        """Ask, as an operator would, for a product to be made again."""
        _, status = self._product_paths(product)
        change = Change(assign={f"{status}.force_redo": True})
        self._change_observation(identifier, change, f"redoing {product}")

    def take_wish(self, identifier: str, product: str) -> bool:
        """Clear the wish for a product to be redone, which is enqueued now.

        Returns
        -------
        bool
            False if it was not there any more: somebody else has taken it.
        """
        _, status = self._product_paths(product)
        change = Change(assign={f"{status}.force_redo": False, f"{status}.enqueued": True})
        wanted = (f"{status}.force_redo", True)
        return self._update(OBJECTS, identifier, change, where=wanted) is not None

    @property
    def requests(self) -> RequestBook:
        """What was asked to be made again."""
        return RequestBook(self)

    @property
    def actions(self) -> ActionBook:
        """What was done by whom."""
        return ActionBook(self)

    @property
    def comments(self) -> CommentBook:
        """What readers say of observations."""
        return CommentBook(self)

    @property
    def users(self) -> UserBook:
        """Who may look at the archive, and at which programs."""
        return UserBook(self)

    def nights_without(self, section: str) -> list[str]:
        """Return the nights whose document has no such section, oldest first."""
        return self._nights_without(section)

    def nights_with(self, section: str) -> list[str]:
        """Return the nights of which such a product was made, in order."""
        return self._nights_with(section)

    def set_seeing(self, identifier: str, seeing: Mapping[str, Any]) -> None:
        """Set an observation's seeing.

        Parameters
        ----------
        identifier : str
        seeing : mapping
            `median`, `mean` (arcsec) and `nearest`, a pair of time and arcsec; keys that are
            not given stay.
        """
        change = Change(assign=keyed("seeing", seeing, {"last_modified"}))
        change.assign["seeing.last_modified"] = now_utc()
        self._change_observation(identifier, change, "setting its seeing")

    def set_distributed(
        self,
        identifier: str,
        status: bool,
        location: Sequence[str] | None = None,
        *,
        package: Mapping[str, Any] | None = None,
        reason: str = "",
    ) -> None:
        """Mark an observation distributed (its package stands at `location`), or not.

        Parameters
        ----------
        identifier : str
        status : bool
        location : sequence of str or None
            Paths below the archive's root; None: as they are.
        package : mapping or None
            What is known of the package; each key replaces what stood there.
        reason : str
            Why it is not distributed.
        """
        change = Change(assign={"distributed.status": bool(status), "distributed.retries": 0})
        change.assign["distributed.last_modified"] = now_utc()
        if location is not None:
            change.assign["distributed.location"] = plain(location)
        change.assign |= keyed("distributed", package or {}, _DISTRIBUTED_RESERVED_KEYS)
        if reason:
            change.assign["distributed.reason"] = plain(reason)
        else:
            change.remove.append("distributed.reason")
        self._change_observation(identifier, change, "marking it distributed")

    def record_package_failure(self, identifier: str, reason: str) -> int:
        """Note that packing an observation failed, and why: it is not distributed.

        Returns
        -------
        int
            Failures in a row, this one included.
        """
        change = Change(
            assign={
                "distributed.status": False,
                "distributed.reason": plain(reason),
                "distributed.last_modified": now_utc(),
            },
            increment={"distributed.retries": 1},
        )
        return self._change_observation(
            identifier, change, "failing its package", "distributed.retries"
        )

    def raw_records(self, identifier: str) -> list[dict[str, Any]]:
        """Return what is known of an observation's raw files, in the order of their frames.

        Returns
        -------
        list of dict
            `name`, `size_bytes`, `mtime_ns`, `sha256`; empty before the first reading.
        """
        records = at_path(self._get(OBJECTS, identifier) or {}, "raw_data.files")
        return records if isinstance(records, list) else []

    def set_raw_records(self, identifier: str, records: Sequence[Mapping[str, Any]]) -> None:
        """Set what is known of an observation's raw files (see `raw_records`)."""
        records = plain(list(records))
        change = Change(
            assign={
                "raw_data.files": records,
                "raw_data.data": [record.get("name") for record in records],
                "raw_data.last_modified": now_utc(),
            }
        )
        self._change_observation(identifier, change, "setting its raw files")

    # -- nights ------------------------------------------------------------------------------

    def night(self, night: str) -> dict[str, Any] | None:
        """Return a night's document, None if there is none."""
        return self._get(NIGHTS, night)

    def nights(self, reader: Reader | None = None) -> list[NightSummary]:
        """Return every night that has an observation or a document, newest first.

        For a `reader` only the nights of observations that they may see are there, and only
        those observations are counted.
        """
        conditions = () if reader is None else reader.conditions()
        rows = {row.night: row for row in self._night_rows(conditions)}
        for night, seeing_median in self._night_seeing():
            if reader is not None and night not in rows:
                continue
            row = rows.get(night) or NightSummary(
                night=night, observations=0, seeing_median=None, done=0, failed=0
            )
            if isinstance(seeing_median, int | float):
                row = NightSummary(**{**vars(row), "seeing_median": float(seeing_median)})
            rows[night] = row
        return [rows[night] for night in sorted(rows, reverse=True)]

    def publish_night(
        self,
        night: str,
        section: str,
        value: Mapping[str, Any],
        *,
        done: bool = True,
        merge: Sequence[str] = (),
    ) -> None:
        """Hang a product in a night's document, which is made if there is none.

        Parameters
        ----------
        night : str
        section : str
            `calib`, `seeing`, `contrast_curve`, `strehl`, `raw`, ..., or
            ``psf_lib.<candidate>`` (see `documents.psf_candidate_key`).
        value : mapping
            Set key by key under `section`; other keys there stay.
        done : bool
        merge : sequence of str
            Keys of `value` that hold mappings to be set key by key as well, so that two stages
            which each add some of them (master darks, master flats) lose nothing.
        """
        self._check_night(night, section)
        reserved = {"done", "retries", "reason", "last_modified"}
        change = Change(assign=keyed(section, value, reserved, merge), remove=[f"{section}.reason"])
        change.assign |= {
            f"{section}.done": done,
            f"{section}.retries": 0,
            f"{section}.last_modified": now_utc(),
        }
        if not self._is_so_already(NIGHTS, night, change):
            self._update(NIGHTS, night, change, upsert=True)
            self.changed.add((NIGHTS, night))

    def record_night_failure(self, night: str, section: str, reason: str) -> int:
        """Note that making a night's product failed, and why; return the failures in a row."""
        self._check_night(night, section)
        change = Change(
            assign={
                f"{section}.done": False,
                f"{section}.reason": plain(reason),
                f"{section}.last_modified": now_utc(),
            },
            increment={f"{section}.retries": 1},
        )
        self.changed.add((NIGHTS, night))
        return self._update(NIGHTS, night, change, upsert=True, returning=f"{section}.retries")

    # -- images ------------------------------------------------------------------------------

    def put_image(
        self, key: str, png: bytes, *, night: str, observation: str | None = None
    ) -> None:
        """Keep a preview image, replacing the one of that key.

        Parameters
        ----------
        key : str
            ``<observation>/<pipeline>/full`` (`cropped`, `pca`, `contrast_curve`),
            ``<night>/seeing`` (`strehl`, `contrast_curve`) or ``<night>/seeing/<exposure id>``.
        png : bytes
            At most 15 MB.
        night : str
        observation : str or None
            None for an image of the whole night.
        """
        self._check_writable()
        night_bounds(night)
        if not key or not isinstance(png, bytes | bytearray | memoryview):
            raise CatalogueError("an image is kept as bytes under a key that is not empty")
        if len(png) > 15_000_000:
            raise CatalogueError(
                f"the image {key} has {len(png)} bytes, and the catalogue keeps at most 15000000; "
                f"draw it smaller"
            )
        self._put_image(key, bytes(png), night, observation)

    # -- claims ------------------------------------------------------------------------------

    def claim(self, subject: str, product: str, owner: str, ttl_s: float) -> bool:
        """Take the right to make a product, for a while.

        Parameters
        ----------
        subject : str
            Observation id or night.
        product : str
        owner : str
            Who claims; the owner of a claim renews it by claiming again.
        ttl_s : float
            Seconds after which the claim is void. One that was taken in the future, before the
            clock was set back, is void as well.

        Returns
        -------
        bool
            False while another owner's claim is valid.
        """
        self._check_writable()
        if not owner or not 0 < ttl_s < 1e9:
            raise CatalogueError(f"a claim has an owner and lasts > 0 s; got {owner!r}, {ttl_s} s")
        return self._claim(f"{subject}|{product}", owner, ttl_s)

    def claimant(self, subject: str, product: str) -> str | None:
        """Return who has claimed a product; None if nobody has, or not any more."""
        return self._claimant(f"{subject}|{product}")

    def release(self, subject: str, product: str, owner: str) -> bool:
        """Give a claim back; True if `owner` held it."""
        self._check_writable()
        return self._release(f"{subject}|{product}", owner)

    # -- shared work -------------------------------------------------------------------------

    def _product_paths(self, product: str) -> tuple[str, str]:
        pipeline, _, part = product.partition(".")
        if pipeline not in PIPELINES or part not in ("", *_PARTS):
            raise CatalogueError(
                f"there is no product {product!r}; a product is one of {', '.join(PIPELINES)}, "
                f"optionally with .{', .'.join(_PARTS[:-1])} or .{_PARTS[-1]}"
            )
        return f"pipelined.{product}", f"pipelined.{status_path(product)}"

    def _change_observation(
        self, identifier: str, change: Change, doing: str, returning: str = ""
    ) -> Any:
        self._check_writable()
        if self._is_so_already(OBJECTS, identifier, change):
            return True
        result = self._update(OBJECTS, identifier, change, returning=returning)
        self.changed.add((OBJECTS, identifier))
        if result is None:
            raise CatalogueError(
                f"{doing}: the catalogue has no observation {identifier}; register it first"
            )
        return result

    def _is_so_already(self, collection: str, identifier: str, change: Change) -> bool:
        """Whether a change would only make a document look newer than it is."""
        present = None if change.increment else self._get(collection, identifier)
        return present is not None and not change.alters(present)

    def _check_night(self, night: str, section: str) -> None:
        self._check_writable()
        night_bounds(night)
        parts = section.split(".")
        if len(parts) > 2 or not all(parts) or any(part.startswith("$") for part in parts):
            raise CatalogueError(
                f"{section!r} is no section of a night's document; give one name, or "
                f"psf_lib.<candidate> with the dots of the id as underscores"
            )


def _reopen(url: str, read_only: bool) -> Catalogue:
    # Imported here: the homes import this module.
    from roboao_assets.storage.catalogue.home import open_catalogue  # noqa: PLC0415

    return open_catalogue(url, read_only=read_only)
