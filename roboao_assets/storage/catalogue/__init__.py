"""The catalogue: what the archive knows of its observations, nights, previews and users.

One interface, `Catalogue`, and two homes of the same documents: MongoDB (production)
and SQLite (embedded, the default). `open_catalogue` picks the home by the URL; nobody
outside this package writes a MongoDB filter or a line of SQL.

Examples
--------
>>> with open_catalogue("sqlite:///archive/catalogue.sqlite") as catalogue:  # doctest: +SKIP
...     bright = catalogue.find_observations(ObservationQuery(strehl=(10.0, None), limit=50))
"""

from roboao_assets.storage.catalogue.actions import Action, ActionBook, ActionPage
from roboao_assets.storage.catalogue.base import NIGHTS, NightSummary
from roboao_assets.storage.catalogue.comments import (
    MOST_COMMENT_CHARACTERS,
    Comment,
    CommentBook,
)
from roboao_assets.storage.catalogue.documents import (
    FAINT_CLASSES,
    PIPELINES,
    is_made,
    leading_pipeline,
    new_observation,
    night_of,
    product,
    program_of,
    psf_candidate_key,
    ran_on,
    skip_reason,
    wanted_again,
)
from roboao_assets.storage.catalogue.home import open_catalogue
from roboao_assets.storage.catalogue.interface import Catalogue
from roboao_assets.storage.catalogue.query import Cone, ObservationQuery, Reader
from roboao_assets.storage.catalogue.requests import AskedStage, RequestBook, WorkRequest
from roboao_assets.storage.catalogue.search_fields import (
    CONTRAST_PIPELINES,
    CONTRAST_SEPARATIONS_ARCSEC,
    SEARCHED_PRODUCTS,
    SORT_FIELDS,
    contrast_field,
    contrast_key,
    made_field,
    value_of,
)
from roboao_assets.storage.catalogue.users import User, UserBook, is_login

__all__ = [
    "CONTRAST_PIPELINES",
    "CONTRAST_SEPARATIONS_ARCSEC",
    "FAINT_CLASSES",
    "MOST_COMMENT_CHARACTERS",
    "NIGHTS",
    "PIPELINES",
    "SEARCHED_PRODUCTS",
    "SORT_FIELDS",
    "Action",
    "ActionBook",
    "ActionPage",
    "AskedStage",
    "Catalogue",
    "Comment",
    "CommentBook",
    "Cone",
    "NightSummary",
    "ObservationQuery",
    "Reader",
    "RequestBook",
    "User",
    "UserBook",
    "WorkRequest",
    "contrast_field",
    "contrast_key",
    "is_login",
    "is_made",
    "leading_pipeline",
    "made_field",
    "new_observation",
    "night_of",
    "open_catalogue",
    "product",
    "program_of",
    "psf_candidate_key",
    "wanted_again",
    "ran_on",
    "skip_reason",
    "value_of",
]
