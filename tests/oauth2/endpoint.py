"""A token endpoint on loopback: it checks requests as RFC 6749 says, rotates, expires, fails and takes its time."""

import base64
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qsl


class RefusedError(Exception):
    """An error response, RFC 6749 §5.2."""

    def __init__(self, error, *, status=400, description="of the tests"):
        super().__init__(error)
        self.status = status
        self.answer = {"error": error, "error_description": description}


class TokenEndpoint:
    """Run a token endpoint while the `with` block lasts.

    Arguments:
        users: a fault server's, {account: secret}: the newest token is the one that logs in there.
        client: (id, secret); a secret of None is a public client.
        authentication: how the client must say who it is: "post", "basic".
        rotate: give a new refresh token each time, and take each only once.
        check_assertion: called with a JWT, raises where it is no good.
    """

    def __init__(self, users, *, account="user", client=("app", "s3cret"), authentication="post", rotate=False,
                 expires_in=3600, check_assertion=None):  # fmt: skip
        self.users, self.account, self.client = users, account, client
        self.authentication, self.rotate, self.expires_in = authentication, rotate, expires_in
        self.check_assertion = check_assertion
        self.refresh_token = "refresh-0"
        self.fail_with = None  # (status, text) instead of an answer
        self.open = threading.Event()  # until it is set, nobody is answered
        self.open.set()
        self.asked = threading.Semaphore(0)  # released by each request
        self.requests = []
        self._lock = threading.Lock()

    def __enter__(self):
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _handler_of(self))
        self._server.daemon_threads = False
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}/token"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,), name="token-endpoint")
        self._thread.start()
        return self

    def __exit__(self, *_):
        self.open.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(10)

    def options(self, **more):
        """Return the dict for `oauth2`."""
        client_id, client_secret = self.client
        return {"client_id": client_id, "client_secret": client_secret, "refresh_token": self.refresh_token,
                "token_url": self.url, **more}  # fmt: skip

    def answer(self, request, headers, body):
        """Return (status, text) for a request."""
        with self._lock:
            self.requests.append(body)
        self.asked.release()
        self.open.wait(10)
        if self.fail_with is not None:
            return self.fail_with
        try:
            with self._lock:
                return 200, json.dumps(self._issue(self._checked(request, headers, body)))
        except RefusedError as error:
            return error.status, json.dumps(error.answer)

    def _checked(self, path, headers, body):
        """§3.2: POST, form-encoded, no parameter twice."""
        pairs = parse_qsl(body, keep_blank_values=True, strict_parsing=True)
        fields = dict(pairs)
        if path != "/token" or len(fields) != len(pairs):
            raise RefusedError("invalid_request")
        if not headers.get("Content-Type", "").startswith("application/x-www-form-urlencoded"):
            raise RefusedError("invalid_request")
        if fields.get("grant_type") != "urn:ietf:params:oauth:grant-type:jwt-bearer":
            self._authenticate(fields, headers.get("Authorization"))
        return fields

    def _authenticate(self, fields, header):
        """§2.3.1: by the body or by a header, never by both."""
        in_body = (fields.get("client_id"), fields.get("client_secret"))
        if self.authentication == "basic":
            scheme, _, value = (header or "").partition(" ")
            in_header = tuple(base64.b64decode(value).decode().split(":", 1))
            known = scheme == "Basic" and in_header == self.client and in_body[1] is None
        else:
            known = header is None and in_body == self.client
        if not known:
            raise RefusedError("invalid_client", status=401)

    def _issue(self, fields):
        grants = {
            "refresh_token": self._refresh,
            "client_credentials": self._client_credentials,
            "urn:ietf:params:oauth:grant-type:jwt-bearer": self._assertion,
        }
        if fields["grant_type"] not in grants:
            raise RefusedError("unsupported_grant_type")
        more = grants[fields["grant_type"]](fields)
        self.users[self.account] = f"token-{len(self.requests)}"
        return {"access_token": self.users[self.account], "token_type": "Bearer", "expires_in": self.expires_in, **more}

    def _refresh(self, fields):
        if fields.get("refresh_token") != self.refresh_token:
            raise RefusedError("invalid_grant")
        if self.rotate:
            self.refresh_token = f"refresh-{len(self.requests)}"
            return {"refresh_token": self.refresh_token}
        return {}

    def _client_credentials(self, fields):
        if not fields.get("scope"):
            raise RefusedError("invalid_scope")
        return {}

    def _assertion(self, fields):
        self.check_assertion(fields["assertion"])
        return {}


def _handler_of(endpoint):
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            body = self.rfile.read(int(self.headers["Content-Length"])).decode()
            status, text = endpoint.answer(self.path, self.headers, body)
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Cache-Control", "no-store")
            if 300 <= status < 400:
                self.send_header("Location", text)
            self.send_header("Content-Length", str(len(text)))
            self.end_headers()
            self.wfile.write(text.encode())

        def log_message(self, *_):
            """Say nothing."""

    return Handler
