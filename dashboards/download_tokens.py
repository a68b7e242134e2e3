"""Tokens with which a script fetches files: signed, expiring, good for nothing else."""

import hmac
import json
from hashlib import sha256

from tornado.web import create_signed_value, decode_signed_value

from dashboards.access import Visitor
from dashboards.sessions import find_user
from dashboards.source import CatalogueSource
from roboao_assets.storage.catalogue import User

_NAME = "roboao-download"
_SCHEME = "Bearer "
_MOST_CHARACTERS = 1_000


class DownloadTokens:
    """Makes tokens and finds out whose they are.

    Nothing is kept of a token: it holds a digest of what its user was like, and ends when the
    password or the programs change, and when the user ends all tokens (`UserBook.end_tokens`).

    Parameters
    ----------
    source : CatalogueSource
        Where the users are.
    secret : str
        Signs the tokens; not that of the sessions, so that neither passes for the other.
    days : float
        After which a token ends.
    """

    def __init__(self, source: CatalogueSource, secret: str, *, days: float) -> None:
        self._source, self._secret, self.days = source, secret, days

    def make(self, user: User) -> str:
        """Return a new token of a user: printable ASCII without blanks and quotes."""
        claim = json.dumps({"name": user.name, "stamp": _stamp(user)})
        return create_signed_value(self._secret, _NAME, claim).decode("ascii")

    def find(self, header: str) -> Visitor | None:
        """Return whose token an `Authorization` header holds, None if it is good for nothing.

        Raises
        ------
        CatalogueError
            The catalogue cannot be read.
        """
        if not header.startswith(_SCHEME) or len(header) > _MOST_CHARACTERS:
            return None
        value = decode_signed_value(
            self._secret,
            _NAME,
            header.removeprefix(_SCHEME),
            max_age_days=self.days,
            min_version=2,
        )
        if value is None:
            return None
        claim = json.loads(value)
        user = find_user(self._source, claim["name"])
        if user is None or not hmac.compare_digest(_stamp(user), claim["stamp"]):
            return None
        return Visitor(user=user, login="", by_token=True)


def _stamp(user: User) -> str:
    return sha256(f"{user.stamp} {user.tokens_stamp}".encode()).hexdigest()
