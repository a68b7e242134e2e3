"""Tables of the SQLite home: JSON documents, with the searched fields as generated columns.

The columns are computed by SQLite from the document, so they cannot disagree with it, also
after an operator changed it by hand. They are stored, and stand before the document, so that a
search does not read the documents that it passes by.
"""

from roboao_assets.storage.catalogue.search_fields import (
    FIELD_PATHS,
    FLAG_FIELDS,
    LIST_FIELDS,
    NUMBER_FIELDS,
    TEXT_FIELDS,
)
from roboao_assets.storage.catalogue.values import DATE_KEY

SCHEMA_VERSION = 5


def json_path(path: str) -> str:
    """Return a dotted path as SQLite's JSON functions spell it."""
    return "$" + "".join(
        f"[{part}]" if part.isdigit() else f'."{part}"' for part in path.split(".")
    )


def _column(field: str) -> str:
    path = json_path(FIELD_PATHS[field])
    if field in TEXT_FIELDS:
        expression = f"""CASE WHEN json_type(document, '{path}') = 'text'
            THEN json_extract(document, '{path}') END"""
    elif field in NUMBER_FIELDS:
        expression = f"""CASE WHEN json_type(document, '{path}') IN ('integer', 'real')
            THEN json_extract(document, '{path}') END"""
    elif field in FLAG_FIELDS:
        expression = f"coalesce(json_type(document, '{path}') = 'true', 0)"
    elif field in LIST_FIELDS:
        expression = f"""CASE WHEN json_type(document, '{path}') = 'array'
            THEN json_array_length(document, '{path}') END"""
    elif field == "date_utc":
        expression = f"""json_extract(document, '{path}."{DATE_KEY}"')"""
    else:
        expression = f"json_extract(document, '{path}')"
    return f"{field} GENERATED ALWAYS AS ({expression}) STORED"


_FIELDS = [field for field in FIELD_PATHS if field != "id"]

# The first ten characters of a date are YYYY-MM-DD. A product's wish to be redone may stand at
# many places: its spelling in compact JSON, which no quoted text can hold, finds any of them.
_OBJECTS = f"""CREATE TABLE objects (
    id TEXT PRIMARY KEY NOT NULL,
    {", ".join(_column(field) for field in _FIELDS)},
    night GENERATED ALWAYS AS
        (replace(substr(json_extract(document, '$.date_utc."{DATE_KEY}"'), 1, 10), '-', '')) STORED,
    redo_asked GENERATED ALWAYS AS
        (coalesce(instr(json_extract(document, '$.pipelined'), '"force_redo":true') > 0, 0)) STORED,
    document TEXT NOT NULL CHECK (json_valid(document))
)"""

# Wide ranges of one field are found faster by reading all rows, which are short without their
# documents, than through an index of that field: there is none of a measured number.
_INDEXED = (
    # Holds every searched field: a search by anything reads this instead of the fat table.
    ", ".join(["date_utc", "id", *(field for field in _FIELDS if field != "date_utc")]),
    "name",
    "program, date_utc",
    "dec_rad, ra_rad, date_utc, id, filter, bright_star_strehl",
    "night, bright_star_done, extended_object_done, bright_star_retries, "
    "extended_object_retries, seeing_median",
)

_OBJECTS_INDEXES = (
    *(
        f"CREATE INDEX objects_{number} ON objects ({columns})"
        for number, columns in enumerate(_INDEXED)
    ),
    "CREATE INDEX objects_redo ON objects (id) WHERE redo_asked",
)

_REQUESTS_AND_HISTORY = (
    """CREATE TABLE requests (id TEXT PRIMARY KEY NOT NULL,
        document TEXT NOT NULL CHECK (json_valid(document)))""",
    """CREATE TABLE history (id TEXT PRIMARY KEY NOT NULL,
        subject GENERATED ALWAYS AS (json_extract(document, '$.subject')) STORED,
        document TEXT NOT NULL CHECK (json_valid(document)))""",
    "CREATE INDEX history_subject ON history (subject, id)",
)
_COMMENTS = (
    """CREATE TABLE comments (id TEXT PRIMARY KEY NOT NULL,
        subject GENERATED ALWAYS AS (json_extract(document, '$.subject')) STORED,
        document TEXT NOT NULL CHECK (json_valid(document)))""",
    "CREATE INDEX comments_subject ON comments (subject, id)",
)
_CLAIMS_TAKEN = "ALTER TABLE claims ADD COLUMN taken REAL NOT NULL DEFAULT 0"
# The searched fields have changed: every document is entered once more. SQLite cannot add a
# stored column to a table that is there.
_OBJECTS_AGAIN = (
    "ALTER TABLE objects RENAME TO objects_before",
    _OBJECTS,
    "INSERT INTO objects (id, document) SELECT id, document FROM objects_before ORDER BY rowid",
    "DROP TABLE objects_before",
    *_OBJECTS_INDEXES,
)
_VERSION = f"PRAGMA user_version = {SCHEMA_VERSION}"

# What brings a file of an older version to this one, in one transaction.
MIGRATIONS = {
    1: (*_REQUESTS_AND_HISTORY, *_OBJECTS_AGAIN, *_COMMENTS, _CLAIMS_TAKEN, _VERSION),
    2: (*_OBJECTS_AGAIN, *_COMMENTS, _CLAIMS_TAKEN, _VERSION),
    3: (*_COMMENTS, _CLAIMS_TAKEN, _VERSION),
    4: (_CLAIMS_TAKEN, _VERSION),
}

STATEMENTS = (
    _OBJECTS,
    *_OBJECTS_INDEXES,
    """CREATE TABLE aux (id TEXT PRIMARY KEY NOT NULL,
        document TEXT NOT NULL CHECK (json_valid(document)))""",
    """CREATE TABLE users (id TEXT PRIMARY KEY NOT NULL,
        document TEXT NOT NULL CHECK (json_valid(document)))""",
    """CREATE TABLE images (key TEXT PRIMARY KEY NOT NULL, night TEXT NOT NULL,
        observation TEXT, last_modified TEXT NOT NULL, png BLOB NOT NULL)""",
    "CREATE INDEX images_night ON images (night, key)",
    "CREATE INDEX images_observation ON images (observation, key)",
    """CREATE TABLE claims (key TEXT PRIMARY KEY NOT NULL, owner TEXT NOT NULL,
        expires REAL NOT NULL) WITHOUT ROWID""",
    _CLAIMS_TAKEN,
    *_REQUESTS_AND_HISTORY,
    *_COMMENTS,
    _VERSION,
)
