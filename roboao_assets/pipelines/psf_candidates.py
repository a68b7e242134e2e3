"""Observations entering the PSF library, on the administrator's decision."""

from roboao_assets.pipelines.high_contrast import library_candidate
from roboao_assets.pipelines.observation import open_context
from roboao_assets.pipelines.workspace import open_workspace
from roboao_assets.science.errors import RawDataError
from roboao_assets.storage.catalogue import night_of
from roboao_assets.storage.psf_library import PsfLibrary
from roboao_assets.storage.settings import Settings


def add_to_library(settings: Settings, observation: str) -> None:
    """Add the PSF of a reduced observation to the library.

    Raises
    ------
    ArchiveError
        The observation is unknown, has no stack, is of an excluded class or program,
        or is in the library already.
    """
    with open_workspace(settings) as ws:
        document = ws.catalogue.observation(observation)
        if document is None:
            raise RawDataError(
                f"the catalogue has no observation {observation}; `roboao status` lists the nights"
            )
        night = str(night_of(document))
        ctx = open_context(ws, night, observation)
        PsfLibrary(ws.paths.psf_library).add(library_candidate(ctx))
