"""An OpenID Connect issuer for tests."""

from __future__ import annotations

import json
import ssl
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

from joserfc.jwk import Key


class _Server(ThreadingHTTPServer):
    def handle_error(self, request: object, client_address: object) -> None:
        """Does not log clients that disconnect because they do not trust the certificate."""


class Issuer:
    """An HTTP server that publishes keys.

    certificate: files of certificate and key; with it the server uses TLS as `localhost`.
    """

    def __init__(self, certificate: tuple[Path, Path] | None = None) -> None:
        self.keys: list[Key] = []
        self.foreign_keys: list[object] = []
        self.fetches = 0
        self.broken = False
        issuer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                if self.path.endswith("/jwks"):
                    issuer.fetches += 1
                status, body = issuer.respond(self.path)
                self.send_response(status)
                self.end_headers()
                self.wfile.write(json.dumps(body).encode())

            def log_message(self, format: str, *args: object) -> None:  # the signature of http.server
                pass

        self._server = _Server(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        if certificate is not None:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(*certificate)
            # The handler thread does the handshake: a client that aborts it must not stop the server.
            self._server.socket = context.wrap_socket(
                self._server.socket, server_side=True, do_handshake_on_connect=False
            )
            self.url = f"https://localhost:{self._server.server_port}"
        self.claimed_url = self.url
        self._thread = Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01})
        self._thread.start()

    def respond(self, path: str) -> tuple[int, object]:
        if self.broken:
            return 500, None
        if path == "/.well-known/openid-configuration":
            return 200, {"issuer": self.claimed_url, "jwks_uri": f"{self.url}/jwks"}
        if path != "/jwks":
            return 404, None
        return 200, {"keys": [*self.foreign_keys, *(key.as_dict(private=False) for key in self.keys)]}

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()
