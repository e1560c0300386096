"""The HTTP service with real clients: answers, Label Studio's protocol, load, hostile input."""

from __future__ import annotations

import base64
import http.client
import io
import json
import socket
import struct
import subprocess
import sys
import threading
import urllib.error
import urllib.request
import zlib
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
from PIL import Image

from label_tools.text.errors import InputError
from toolkit.deployment.http_service import Server, Service
from toolkit.deployment.label_studio_protocol import Fetcher, control_of

ROOT = Path(__file__).resolve().parents[2]
CONFIG = """<View><Image name="photo" value="$picture"/><RectangleLabels name="boxes" toName="photo">
<Label value="square"/><Label value="other"/></RectangleLabels></View>"""


class Brightest:
    """A `Detector` that finds the picture's bright pixels, as a square of .9 and a disc of .3."""

    opening: ClassVar[dict] = {}
    reads_windows = False
    name, identity = "brightest", "0123456789abcdef"
    categories = [{"id": 4, "name": "square"}, {"id": 9, "name": "disc"}]  # noqa: RUF012
    score_thresholds = {"square": 0.5, "disc": 0.25}  # noqa: RUF012

    def detect(self, images):
        results = []
        for image in images:
            y, x = np.nonzero(image[..., 0] > 200)
            box = [int(x.min()), int(y.min()), int(np.ptp(x)) + 1, int(np.ptp(y)) + 1] if len(x) else None
            both = ((4, 0.9), (9, 0.3), (4, 0.1))
            results.append([{"category_id": c, "bbox": box, "score": s} for c, s in both] if box else [])
        return results


def png(x: int = 30, width: int = 200, height: int = 100) -> bytes:
    """A picture with a bright square of 20 x 10 at (x, 40)."""
    image = np.zeros((height, width, 3), dtype=np.uint8)
    image[40:50, x : x + 20] = 255
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "PNG")
    return buffer.getvalue()


def serving(fetcher: Fetcher | None = None):
    limit = 100_000
    service = Service(Brightest(), fetcher or Fetcher(limit=limit), None, max_pixels=1_000_000)
    server = Server(("127.0.0.1", 0), service, limit)
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
    return server


@pytest.fixture(scope="module")
def port():
    server = serving()
    yield server.server_port
    server.shutdown()
    server.server_close()


def ask(port: int, path: str, body: bytes | dict | None = None, method: str = "POST") -> tuple[int, dict]:
    data = json.dumps(body).encode() if isinstance(body, dict) else body
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    try:
        connection.request(method, path, data)
        answer = connection.getresponse()
        return answer.status, json.loads(answer.read())
    finally:
        connection.close()


def test_picture_in_json_out(port):
    status, found = ask(port, "/detect", png())
    assert status == 200 and (found["width"], found["height"]) == (200, 100)
    one, other = found["detections"]  # the third is under its threshold
    assert one == {"label": "square", "category_id": 4, "bbox": [30, 40, 20, 10], "score": 0.9}
    assert (other["label"], other["score"]) == ("disc", 0.3)
    assert len(ask(port, "/detect?score=0.05", png())[1]["detections"]) == 3
    status, about = ask(port, "/health", method="GET")
    assert status == 200 and about["status"] == "UP" and about["classes"] == ["square", "disc"]


def test_label_studio(port):
    assert ask(port, "/setup", {"project": "1.17", "schema": CONFIG}) == (200, {"model_version": "frcnn-0123456789ab"})
    picture = "data:image/png;base64," + base64.b64encode(png()).decode()
    request = {"tasks": [{"id": 1, "data": {"picture": picture}}], "project": "1.17", "label_config": CONFIG}
    status, answer = ask(port, "/predict", request)
    ((region,),) = [one["result"] for one in answer["results"]]  # the configuration has no disc
    assert status == 200 and region["from_name"] == "boxes" and region["to_name"] == "photo"
    assert region["type"] == "rectanglelabels" and region["value"]["rectanglelabels"] == ["square"]
    # 30 of 200, 40 of 100, 20 of 200, 10 of 100 pixels, in percent
    assert [region["value"][key] for key in ("x", "y", "width", "height")] == [15, 40, 10, 10]
    assert (region["original_width"], region["original_height"], region["score"]) == (200, 100, 0.9)
    assert ask(port, "/webhook", {"action": "ANNOTATION_CREATED"})[0] == 201
    assert control_of(None).key == "image"


def test_one_picture_that_cannot_be_had_does_not_lose_the_others(port):
    good = "data:image/png;base64," + base64.b64encode(png()).decode()
    tasks = [{"data": {"picture": p}} for p in ("/etc/passwd", good, "data:image/png;base64,!!")]
    status, answer = ask(port, "/predict", {"tasks": tasks, "label_config": CONFIG})
    assert status == 200 and [len(one["result"]) for one in answer["results"]] == [0, 1, 0]


@pytest.mark.parametrize("name", ["/etc/passwd", "file:///etc/passwd", "http://127.0.0.1:1/x.png", "../x", "C:\\x.png"])
def test_no_path_and_no_other_server_is_opened(port, name, monkeypatch):
    opened = []
    monkeypatch.setattr(socket, "create_connection", lambda *a, **k: opened.append(a) or pytest.fail("asked a server"))
    for fetcher in (Fetcher(), Fetcher("http://label.studio:8080")):
        if fetcher.server and not name.startswith(("http", "file")):
            continue  # a relative address is one of that server
        with pytest.raises(InputError, match=r"asks no server|only http://label\.studio:8080 is asked"):
            fetcher.read(name)
    assert not opened


class LabelStudio(BaseHTTPRequestHandler):
    """Gives a picture to who has the key; leads elsewhere at /away."""

    def do_GET(self):
        if self.path == "/away":
            self.send_response(302)
            self.send_header("Location", "http://127.0.0.1:1/x.png")
            self.end_headers()
            return
        right = self.headers["Authorization"] == "Token secret"
        self.send_response(200 if right and self.path == "/data/upload/1/a%20b.png" else 403)
        self.end_headers()
        self.wfile.write(png(60) if right else b"")

    def log_message(self, *args):
        pass


def test_pictures_come_from_the_allowed_server_with_its_key():
    server = HTTPServer(("127.0.0.1", 0), LabelStudio)
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
    origin = f"http://127.0.0.1:{server.server_port}"
    try:
        fetcher = Fetcher(origin, "secret")
        assert fetcher.read("/data/upload/1/a%20b.png") == png(60)
        assert fetcher.read(f"{origin}/data/upload/1/a%20b.png") == png(60)
        with pytest.raises(InputError, match="leads on to another server"):
            fetcher.read("/away")
        with pytest.raises(InputError, match=r"answers 403; is LABEL_STUDIO_API_KEY right"):
            Fetcher(origin).read("/data/upload/1/a%20b.png")
        with pytest.raises(InputError, match="more than 50 bytes"):
            Fetcher(origin, "secret", limit=50).read("/data/upload/1/a%20b.png")
        with pytest.raises(InputError, match=r"only .* is asked"):
            fetcher.read("http://127.0.0.1:1/x.png")
    finally:
        server.shutdown()
        server.server_close()


def test_a_hundred_requests_eight_at_a_time_and_none_is_lost(port):
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda k: ask(port, "/detect", png(k)), range(100)))
    assert [status for status, _ in answers] == [200] * 100
    assert [answer["detections"][0]["bbox"][0] for _, answer in answers] == list(range(100))  # each its own


def bomb(side: int = 60_000) -> bytes:
    """A PNG of 3.6 thousand million pixels in a few bytes."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = struct.pack(">IIBBBBB", side, side, 1, 0, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(bytes(9000))) + chunk(b"IEND", b"")
    )


@pytest.mark.parametrize(
    "path, body, status, text",
    [
        ("/detect", bomb(), 422, "more than the limit of 1000000"),
        ("/detect", b"GIF89a", 422, "embedded image"),
        ("/detect", b"", 422, "the file is empty"),
        ("/detect", b"<html>no picture</html>" * 9, 422, "holds text"),
        ("/detect", b"\0" * 100_001, 413, "at most 100000 are read"),
        ("/detect?score=nan", png(), 400, "needs 0 to 1"),
        ("/detect?score=x", png(), 400, "needs 0 to 1"),
        ("/predict", b"[" * 90_000, 400, "needs a JSON object"),
        ("/predict", b"[]", 400, "needs a JSON object"),
        ("/predict", {"tasks": "all"}, 400, "needs a list of 1 to 64"),
        ("/predict", {"tasks": [{}] * 65}, 400, "needs a list of 1 to 64"),
        ("/predict", {"tasks": [None]}, 422, "needs the address of a picture"),
        ("/predict", {"tasks": [{"data": {"image": "/etc/passwd"}}]}, 422, "asks no server"),
        ("/setup", {"schema": '<!DOCTYPE x [<!ENTITY a "aa">]><View>&a;</View>'}, 400, "document type"),
        ("/setup", {"schema": "<View><Text/></View>"}, 400, "has no <RectangleLabels>"),
        ("/etc/passwd", b"", 404, "no such page"),
        ("/../../etc/passwd", b"", 404, "no such page"),
    ],
)
def test_hostile_input_is_one_line_and_the_service_goes_on(port, path, body, status, text):
    found, answer = ask(port, path, body)
    assert (found, list(answer)) == (status, ["error"])
    assert text in answer["error"] and "\n" not in answer["error"]
    assert ask(port, "/detect", png())[0] == 200


def test_a_gigabyte_is_refused_before_it_is_read(port):
    for header in (b"Content-Length: 1000000000", b"Transfer-Encoding: chunked", b"Content-Length: -1"):
        with socket.create_connection(("127.0.0.1", port), timeout=30) as client:
            client.sendall(b"POST /detect HTTP/1.1\r\nHost: x\r\n" + header + b"\r\n\r\n")
            answer = client.makefile("rb").read()  # to its end: the service hung up
        assert answer.split()[1] == (b"413" if b"1000" in header else b"411")


def test_a_client_that_hangs_up_disturbs_nobody(port):
    with socket.create_connection(("127.0.0.1", port), timeout=30) as client:
        client.sendall(b"POST /detect HTTP/1.1\r\nContent-Length: 5000\r\n\r\nabc")
    assert ask(port, "/detect", png())[0] == 200


def test_command_answers_and_ends_with_ctrl_c(tmp_path):
    from tests.toolkit.training_fixtures import untrained_run

    run = untrained_run(tmp_path / "run", {"square": 0.0, "disc": 0.0})
    command = [sys.executable, "-m", "toolkit", "serve", str(run), "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ROOT) as service:
        line = service.stdout.readline()
        assert "listens at http://127.0.0.1:" in line
        address = line.split()[3].rstrip(";")
        with urllib.request.urlopen(urllib.request.Request(address + "/detect", png()), timeout=60) as answer:
            assert json.loads(answer.read())["detections"]
        with pytest.raises(urllib.error.HTTPError, match="404"):
            urllib.request.urlopen(address + "/nothing", timeout=60)
        service.send_signal(2)
        _, errors = service.communicate(timeout=60)
    assert service.returncode == 130 and "Traceback" not in errors
