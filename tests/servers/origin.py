"""A server in a thread that answers everything, and notes what arrives: directly, as a proxy, or behind one."""

from __future__ import annotations

import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from typing import Self


class Origin:
    """Listens on loopback, while it is entered."""

    def __init__(self) -> None:
        self.targets: list[str] = []
        self.authorizations: list[str | None] = []
        self.cookies: list[str | None] = []
        self.redirects: dict[str, str] = {}
        noted = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                noted.targets.append(self.path)
                noted.authorizations.append(self.headers.get("authorization"))
                noted.cookies.append(self.headers.get("cookie"))
                self.send_response(200 if self.path not in noted.redirects else 307)
                if self.path in noted.redirects:
                    self.send_header("location", noted.redirects[self.path])
                if self.path == "/set-cookie":
                    self.send_header("set-cookie", "visit=1; Path=/")
                self.send_header("content-type", "text/html")
                self.send_header("content-length", "2")
                self.end_headers()
                self.wfile.write(b"ok")

            do_POST = do_CONNECT = do_GET  # noqa: N815 (the names are http.server's)

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)

    @property
    def port(self) -> int:
        return self._server.server_port

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()
