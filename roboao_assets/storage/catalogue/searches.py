"""Searches among the observations, as both homes do them."""

from collections.abc import Sequence
from typing import Any

from roboao_assets.science.errors import CatalogueError
from roboao_assets.storage.catalogue.base import DocumentHome
from roboao_assets.storage.catalogue.conditions import OneOf
from roboao_assets.storage.catalogue.query import Cone, ObservationQuery
from roboao_assets.storage.catalogue.search_fields import FIELD_PATHS

_IDS_AT_ONCE = 1000


class ObservationSearches(DocumentHome):
    """What may be asked of the observations; see `ObservationQuery`."""

    def find_observations(self, query: ObservationQuery) -> list[dict[str, Any]]:
        """Return the documents of the observations that match, sorted and cut as asked."""
        if query.cone is not None:
            return self._cut(self._inside_cone(query), query)
        return self._select(
            query.conditions(),
            sort=(query.sort_field, query.sort[1]),
            skip=query.skip,
            limit=query.limit,
            summary_only=query.summary_only,
        )

    def count_observations(self, query: ObservationQuery) -> int:
        """Return how many observations match, whatever `skip` and `limit` say."""
        if query.cone is not None:
            return len(self._inside_cone(query))
        return self._count(query.conditions())

    def find_page(self, query: ObservationQuery) -> tuple[list[dict[str, Any]], int]:
        """Return what `find_observations` and `count_observations` do; of a cone in one search."""
        if query.cone is not None:
            inside = self._inside_cone(query)
            return self._cut(inside, query), len(inside)
        return self.find_observations(query), self.count_observations(query)

    def find_fields(self, query: ObservationQuery, fields: Sequence[str]) -> list[tuple[Any, ...]]:
        """Return some fields of the observations that match, without reading their documents.

        Parameters
        ----------
        query : ObservationQuery
        fields : sequence of str
            Names in `FIELD_PATHS`.

        Returns
        -------
        list of tuple
            A row an observation, sorted and cut as asked; None where a value is missing or not
            of the field's kind. Of a list its length, of a flag whether it is true.
        """
        unknown = [field for field in fields if field not in FIELD_PATHS or field == "program_pi"]
        if unknown or not fields:
            raise CatalogueError(f"there are no fields {', '.join(unknown)!r} to be listed")
        sort = (query.sort_field, query.sort[1])
        if query.cone is None:
            return self._select_fields(
                query.conditions(), fields=fields, sort=sort, skip=query.skip, limit=query.limit
            )
        inside = self._page_of(self._inside_cone(query), query)
        found: dict[str, tuple[Any, ...]] = {}
        for start in range(0, len(inside), _IDS_AT_ONCE):
            some = OneOf("id", tuple(inside[start : start + _IDS_AT_ONCE]))
            for identifier, *row in self._select_fields(
                (some,), fields=("id", *fields), sort=("id", True), skip=0, limit=0
            ):
                found[identifier] = tuple(row)
        return [found[identifier] for identifier in inside if identifier in found]

    def _inside_cone(self, query: ObservationQuery) -> Sequence[str]:
        """Return the ids of every match, sorted as asked."""
        assert query.cone is not None
        name, ascending = query.sort
        field = name if name == "separation" else query.sort_field
        return self._inside(query.conditions(), Cone(*query.cone), (field, ascending))

    def _page_of(self, inside: Sequence[str], query: ObservationQuery) -> Sequence[str]:
        end = query.skip + query.limit if query.limit else None
        return inside[query.skip : end]

    def _cut(self, inside: Sequence[str], query: ObservationQuery) -> list[dict[str, Any]]:
        return self._get_many(self._page_of(inside, query), query.summary_only)
