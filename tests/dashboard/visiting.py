"""Visitors of the pages: users of a catalogue, and a client that logs in as they do."""

import re
import urllib.error
import urllib.parse
import urllib.request
from functools import cache
from http.cookiejar import CookieJar

from roboao_assets.storage.catalogue import open_catalogue
from roboao_assets.storage.passwords import hash_password

ADMIN = "admin"


def password_of(name):
    return f"the password of {name}"


@cache
def _hash_of(name):
    return hash_password(password_of(name), login=name)


def add_user(catalogue_url, name=ADMIN, programs="all"):
    with open_catalogue(catalogue_url) as catalogue:
        catalogue.users.add(name, _hash_of(name), programs)


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *args):
        return None


class Client:
    """Asks a server over HTTP and keeps its cookies; redirects are answers."""

    def __init__(self, address):
        self.address = address
        self.cookies = CookieJar()
        self._opener = urllib.request.build_opener(
            urllib.request.HTTPCookieProcessor(self.cookies), _NoRedirect
        )

    def ask(self, path, data=None, headers=None, method=None):
        """Return status, headers and body."""
        asked = urllib.request.Request(
            self.address + path, data=data, headers=headers or {}, method=method
        )
        try:
            with self._opener.open(asked, timeout=60) as answer:
                return answer.status, answer.headers, answer.read()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.headers, error.read()

    def form_token(self):
        body = self.ask("/login?next=/x")[2].decode()
        found = re.search(r'name="_xsrf" value="([^"]+)"', body)
        if found is None:  # who is logged in finds it on every page
            body = self.ask("/")[2].decode()
            found = re.search(r'name="_xsrf" value="([^"]+)"', body)
        return found[1]

    def post(self, path, **fields):
        fields = {"_xsrf": self.form_token(), **fields}
        return self.ask(path, urllib.parse.urlencode(fields).encode())

    def log_in(self, name=ADMIN, password=None, following="/"):
        password = password_of(name) if password is None else password
        return self.post("/login", name=name, password=password, next=following)

    @property
    def session(self):
        """The cookie of the session, None if there is none."""
        return next((c for c in self.cookies if c.name == "roboao_session"), None)

    def cookie_header(self):
        return "; ".join(f"{cookie.name}={cookie.value}" for cookie in self.cookies)


def logged_in(address, name=ADMIN):
    client = Client(address)
    status, headers, body = client.log_in(name)
    assert status == 303, body.decode()
    return client


def let_in(context, address, name=ADMIN):
    """Give a browser's context the cookies of somebody who is logged in."""
    client = logged_in(address, name)
    context.add_cookies(
        [{"name": cookie.name, "value": cookie.value, "url": address} for cookie in client.cookies]
    )
