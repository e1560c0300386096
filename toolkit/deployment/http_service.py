"""A detector behind a small local HTTP service.

    GET  /health          what runs here
    POST /detect?score=S  the bytes of a picture -> its detections as JSON
    POST /setup, /predict, /webhook   Label Studio's protocol (`label_studio_protocol`)

The standard library's server: bodies are bounded before they are read, at most BUSY requests are read and decoded at a
time, one detects. Nothing that a client sends is ever a path here.
"""

from __future__ import annotations

import json
import logging
import math
import threading
import time
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

import numpy as np

from label_tools.pictures import open_image
from label_tools.text.errors import InputError, one_line
from toolkit.deployment import label_studio_protocol
from toolkit.deployment.label_studio_protocol import Fetcher
from toolkit.prediction.detector import Detector, Found, over, thresholds_of

_LOG = logging.getLogger(__name__)
BUSY = 8  # requests whose bodies and pictures are in memory
SECONDS = 30.0  # for a client to send its request
MOST_TASKS = 64  # of Label Studio in one request


class RequestError(Exception):
    """A request that cannot be answered: its HTTP status and a line for the client."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(text)
        self.status = status


class Service:
    """A detector that answers requests; knows nothing of HTTP but the status of a refusal."""

    def __init__(self, detector: Detector, fetcher: Fetcher, score: float | None, max_pixels: int) -> None:
        self.detector, self.fetcher, self.score, self.max_pixels = detector, fetcher, score, max_pixels
        self.version = f"frcnn-{detector.identity[:12]}"
        self.names = {category["id"]: category["name"] for category in detector.categories}
        self._one = threading.Lock()  # a detector uses every core; two at a time would only take turns

    def detect(self, content: bytes, score: float | None = None) -> tuple[Found, tuple[int, int]]:
        """(detections over the thresholds, (width, height)) of the bytes of a picture. Raises RequestError."""
        try:
            opening = {**self.detector.opening, "max_pixels": self.max_pixels}
            picture = open_image.open_image(content, **opening)
        except InputError as error:
            raise RequestError(422, str(error)) from None
        with self._one:
            (found,) = self.detector.detect([np.asarray(picture)])
        wanted = self.score if score is None else score
        return over(found, thresholds_of(self.detector, wanted)), picture.size

    def health(self) -> dict[str, Any]:
        names = list(self.names.values())
        return {"status": "UP", "model_class": "frcnn", "model_version": self.version, "classes": names}

    def answer(self, content: bytes, query: dict[str, list[str]]) -> dict[str, Any]:
        """Of POST /detect."""
        score = None
        if "score" in query:
            try:
                score = float(query["score"][0])
            except ValueError:
                score = math.nan
            if not 0 <= score <= 1:
                raise RequestError(400, f"score: found {query['score'][0]!r:.40}, needs 0 to 1")
        found, (width, height) = self.detect(content, score)
        detections = [{"label": self.names[one["category_id"]], **one} for one in found]
        return {"width": width, "height": height, "detections": detections, "model_version": self.version}

    def predict(self, request: dict[str, Any]) -> dict[str, Any]:
        """Of Label Studio's POST /predict. A task whose picture cannot be had gets no region; when that is all of them
        the first reason is the answer."""
        tasks = request.get("tasks")
        if not isinstance(tasks, list) or not 1 <= len(tasks) <= MOST_TASKS:
            raise RequestError(400, f"tasks: needs a list of 1 to {MOST_TASKS}")
        results, reasons = [], []
        control = self._control(request.get("label_config"))
        for task in tasks:
            try:
                content = self.fetcher.read(label_studio_protocol.picture_of(task, control))
                found, size = self.detect(content)
            except (InputError, RequestError) as error:
                reasons.append(str(error))
                _LOG.warning("%s", one_line(error))
                found, size = [], (1, 1)
            results.append(label_studio_protocol.prediction(found, self.names, size, control, self.version))
        if len(reasons) == len(tasks):
            raise RequestError(422, reasons[0])
        return {"results": results}

    def setup(self, request: dict[str, Any]) -> dict[str, Any]:
        """Of Label Studio's POST /setup."""
        control = self._control(request.get("schema"))
        if unknown := [name for name in self.names.values() if control.labels and name not in control.labels]:
            _LOG.warning("the labelling configuration lacks %s: these are not shown", one_line(", ".join(unknown)))
        return {"model_version": self.version}

    def _control(self, config: Any) -> label_studio_protocol.Control:
        try:
            return label_studio_protocol.control_of(config if isinstance(config, str) else None)
        except InputError as error:
            raise RequestError(400, str(error)) from None


class Server(ThreadingHTTPServer):
    """Listens at (host, port); 0: any free port. limit: bytes of a request."""

    daemon_threads = True
    request_queue_size = 256  # connections that wait to be taken

    def __init__(self, place: tuple[str, int], service: Service, limit: int) -> None:
        self.service, self.limit = service, limit
        self.busy = threading.BoundedSemaphore(BUSY)
        super().__init__(place, Handler)

    def handle_error(self, request: Any, client_address: Any) -> None:
        _LOG.debug("a connection broke", exc_info=True)  # a client that went away


class Handler(BaseHTTPRequestHandler):
    """One request of a client."""

    server: Server
    timeout = SECONDS
    server_version, sys_version = "frcnn", ""

    def do_GET(self) -> None:
        self._reply(self._get)

    def do_POST(self) -> None:
        self._reply(self._post)

    def _get(self) -> tuple[int, dict[str, Any]]:
        path = urlsplit(self.path).path
        if path in ("/", "/health"):
            return 200, self.server.service.health()
        if path == "/metrics":
            return 200, {}
        raise RequestError(404, "found no such page; needs GET /health or POST /detect")

    def _post(self) -> tuple[int, dict[str, Any]]:
        service, address = self.server.service, urlsplit(self.path)
        path = address.path
        if path not in ("/detect", "/predict", "/setup", "/webhook"):
            raise RequestError(404, "found no such page; needs POST /detect, /predict, /setup or /webhook")
        length = self._length()
        with self.server.busy:
            body = self._body(length)
            if path == "/detect":
                return 200, service.answer(body, parse_qs(address.query))
            request = _json(body)
            if path == "/predict":
                return 200, service.predict(request)
            return (200, service.setup(request)) if path == "/setup" else (201, {"status": "nothing is trained here"})

    def _length(self) -> int:
        text = self.headers.get("Content-Length", "")
        if not (text.isascii() and text.isdecimal()) or "Transfer-Encoding" in self.headers:
            raise RequestError(411, "needs a Content-Length")
        if len(text) > 12 or int(text) > self.server.limit:
            raise RequestError(413, f"found a request of {text[:20]} bytes, at most {self.server.limit} are read")
        return int(text)

    def _body(self, length: int) -> bytes:
        parts, end = [], time.monotonic() + SECONDS
        while length:
            part = self.rfile.read1(min(length, 1 << 16))
            if not part or time.monotonic() > end:
                raise RequestError(400, "the request was cut off")
            parts.append(part)
            length -= len(part)
        return b"".join(parts)

    def _reply(self, action: Any) -> None:
        try:
            status, content = action()
        except RequestError as error:
            status, content = error.status, {"error": one_line(error)}
        except TimeoutError:
            status, content = 408, {"error": "the request was not sent in time"}
        except Exception:  # a mistake of ours: the service goes on for the others
            _LOG.exception("a request failed")
            status, content = 500, {"error": "failed; the service's log says why"}
        data = json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.send_header("X-Content-Type-Options", "nosniff")
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, format: str, *args: Any) -> None:
        _LOG.debug("%s", one_line(format % args))


def _json(body: bytes) -> dict[str, Any]:
    with suppress(ValueError, RecursionError):
        if isinstance(request := json.loads(body), dict):
            return request
    raise RequestError(400, "needs a JSON object")
