"""An OpenID Connect provider on loopback: lets in, without asking, whom the test has named."""

import base64
import hashlib
import json
import secrets
import threading
import urllib.parse
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

KEY, SECRET = "the archive", "what only archive and provider know"


def _segment(value):
    return base64.urlsafe_b64encode(json.dumps(value).encode()).rstrip(b"=").decode()


class Provider(ThreadingHTTPServer):
    """Who comes (`claims`), and what is wrong with the answers (`spoilt`)."""

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), _Answer)
        self.address = f"http://127.0.0.1:{self.server_address[1]}"
        self.claims, self.spoilt, self.sends_id_token = {}, "", True
        self.codes, self.tokens, self.asked = {}, {}, []

    def settings(self, provider="generic"):
        """What makes an archive use this provider: Panel's own settings."""
        given = {
            "PANEL_OAUTH_PROVIDER": provider,
            "PANEL_OAUTH_KEY": KEY,
            "PANEL_OAUTH_AUTHORIZE_URL": f"{self.address}/authorize",
            "PANEL_OAUTH_TOKEN_URL": f"{self.address}/token",
            "PANEL_OAUTH_USER_URL": f"{self.address}/userinfo",
        }
        return given | ({} if provider == "auth_code" else {"PANEL_OAUTH_SECRET": SECRET})


class _Answer(BaseHTTPRequestHandler):
    def log_message(self, *args):
        pass

    def do_GET(self):  # noqa: N802 - http.server's name
        parts = urllib.parse.urlsplit(self.path)
        fields = dict(urllib.parse.parse_qsl(parts.query))
        self.server.asked.append((parts.path, fields))
        if parts.path == "/authorize" and fields["client_id"] == KEY:
            code = secrets.token_hex(8)
            self.server.codes[code] = fields
            back = {"code": code, "state": fields["state"]}
            if self.server.spoilt == "refuses":
                back = {"error": "access_denied", "error_description": "<b>call 555</b>"}
            self.send_response(302)
            self.send_header("Location", f"{fields['redirect_uri']}?{urllib.parse.urlencode(back)}")
            self.end_headers()
            return
        token = self.headers.get("Authorization", "").removeprefix("Bearer ")
        known = parts.path == "/userinfo" and token in self.server.tokens
        self._send(200 if known else 401, self.server.tokens.get(token, {"error": "who?"}))

    def do_POST(self):  # noqa: N802
        size = int(self.headers["Content-Length"])
        fields = dict(urllib.parse.parse_qsl(self.rfile.read(size).decode()))
        self.server.asked.append((self.path, fields))
        begun = self.server.codes.pop(fields.get("code"), None)
        if self.server.spoilt == "breaks":
            self._send(500, {"error": "out of order"})
        elif self.server.spoilt == "mumbles":
            self._send(200, None)
        elif begun is None or begun["redirect_uri"] != fields["redirect_uri"]:
            self._send(400, {"error": "invalid_grant"})
        elif not self._is_the_archive(begun, fields):
            self._send(401, {"error": "invalid_client"})
        else:
            token = secrets.token_hex(16)
            self.server.tokens[token] = self.server.claims
            answer = {"access_token": token, "token_type": "Bearer", "expires_in": 3600}
            if self.server.sends_id_token:
                parts = ({"alg": "HS256"}, self.server.claims)
                answer["id_token"] = ".".join([*map(_segment, parts), "signature"])
            self._send(200, answer)

    def _is_the_archive(self, begun, fields):
        challenge = begun.get("code_challenge")
        if challenge is None:
            return (fields["client_id"], fields.get("client_secret")) == (KEY, SECRET)
        digest = hashlib.sha256(fields["code_verifier"].encode()).digest()
        return base64.urlsafe_b64encode(digest).rstrip(b"=").decode() == challenge

    def _send(self, status, value):
        body = b"no JSON" if value is None else json.dumps(value).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


@contextmanager
def providing():
    with Provider() as provider:
        thread = threading.Thread(target=provider.serve_forever)
        thread.start()
        yield provider
        provider.shutdown()
        thread.join()
