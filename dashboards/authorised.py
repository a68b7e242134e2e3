"""Whether who asks may use Dagster's pages: for the proxy before them (deploy/)."""

from tornado.web import RequestHandler

from dashboards.access import ADMINISTRATION, Access
from dashboards.gate import current_visitor

AUTHORISED_URL = "/authorised/dagster"


class AuthorisedHandler(RequestHandler):
    """`/authorised/dagster`: 204 for administrators, 403 for other users, 401 for strangers."""

    def initialize(self, access: Access) -> None:
        """Take what the server hands every handler of this kind."""
        self._access = access

    def get(self) -> None:
        """Answer with a status and nothing else."""
        visitor = current_visitor(self.request)
        allowed = self._access.may(visitor, ADMINISTRATION)
        self.set_header("Cache-Control", "no-store")
        self.set_status(204 if allowed else 401 if visitor is None else 403)
