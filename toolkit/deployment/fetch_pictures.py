"""Pictures that a client names: only data: URIs, and addresses of the one server that the owner of the service allowed.

A client never makes the service open a path of this machine or ask another server.
"""

from __future__ import annotations

import base64
import binascii
import urllib.error
import urllib.request
from typing import Any
from urllib.parse import urljoin, urlsplit

from label_tools.text.errors import InputError

SECONDS = 20.0  # for the allowed server to answer


class _SameServer(urllib.request.HTTPRedirectHandler):
    """Follows redirects within the allowed server alone: elsewhere its key would go along."""

    def __init__(self, origin: str) -> None:
        self.origin = origin

    def redirect_request(self, req: Any, fp: Any, code: int, msg: str, headers: Any, newurl: str) -> Any:
        if _origin(newurl) != self.origin:
            raise InputError("picture: its server leads on to another server, which is not asked")
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def _origin(url: str) -> str:
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc}".lower()


class Fetcher:
    """Reads pictures by the names that clients give. server: the allowed one, such as http://localhost:8080, or "";
    key: Label Studio's legacy token for it; limit: bytes of a picture."""

    def __init__(self, server: str = "", key: str = "", limit: int = 20_000_000) -> None:
        parts = urlsplit(server)
        if server and (parts.scheme not in ("http", "https") or not parts.hostname or parts.username is not None):
            raise InputError(f"--label-studio {server}: needs an address such as http://localhost:8080")
        self.server, self.limit = server.rstrip("/"), limit
        self._headers = {"Authorization": f"Token {key}"} if key else {}
        handlers: list[Any] = [urllib.request.ProxyHandler({}), _SameServer(_origin(server))]
        self._open = urllib.request.build_opener(*handlers).open

    def read(self, name: str) -> bytes:
        """The bytes of a picture. Raises InputError for whatever is not allowed, not there or too large."""
        if name.startswith("data:"):
            return self._decoded(name)
        if not self.server:
            raise InputError("picture: is an address, and this service asks no server; start it with --label-studio")
        url = urljoin(self.server + "/", name)
        if _origin(url) != _origin(self.server):
            raise InputError(f"picture: lies on {_origin(url)[:100]}; only {self.server} is asked")
        try:
            with self._open(urllib.request.Request(url, headers=self._headers), timeout=SECONDS) as answer:
                content = answer.read(self.limit + 1)
        except urllib.error.HTTPError as error:
            raise InputError(f"picture: {self.server} answers {error.code}; is LABEL_STUDIO_API_KEY right?") from None
        except (OSError, ValueError) as error:
            raise InputError(f"picture: cannot be read from {self.server}: {error}") from None
        return self._checked(content)

    def _decoded(self, name: str) -> bytes:
        head, _, text = name.partition(",")
        if not head.endswith(";base64"):
            raise InputError("picture: a data: URI without ;base64")
        try:
            return self._checked(base64.b64decode(text, validate=True))
        except (binascii.Error, ValueError):
            raise InputError("picture: a data: URI that is no base64") from None

    def _checked(self, content: bytes) -> bytes:
        if len(content) > self.limit:
            raise InputError(f"picture: more than {self.limit} bytes")
        return content
