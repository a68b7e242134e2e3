"""A catalogue of the test's own in each of its homes: one contract, run on all."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from roboao_assets.storage.catalogue import Catalogue, open_catalogue

HOMES = ("sqlite", pytest.param("mongodb", marks=pytest.mark.mongodb))


@pytest.fixture(params=HOMES)
def catalogue_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """URL of an empty catalogue, once for each home."""
    if request.param == "mongodb":
        return request.getfixturevalue("mongodb_url")
    return f"sqlite:///{tmp_path}/archive/catalogue.sqlite"


@pytest.fixture
def catalogue(catalogue_url: str) -> Iterator[Catalogue]:
    """An empty catalogue, once for each home."""
    with open_catalogue(catalogue_url) as catalogue:
        yield catalogue
