"""Label Studio's protocol for a machine-learning backend: requests, answers, and the pictures that tasks name.

    POST /setup    {"project": "1.17", "schema": "<View>...</View>"}                 -> {"model_version": "..."}
    POST /predict  {"tasks": [{"data": {"image": "..."}}], "label_config": "..."}    -> {"results": [prediction, ...]}

A prediction is {"model_version", "score", "result": [region, ...]}; a region names the tags of the labelling
configuration and holds its box in percent of the picture.

A task names its picture: a data: URI, or an address of the one server that the owner of the service allowed. A client
never makes the service open a path of this machine or ask another server.
"""

from __future__ import annotations

import base64
import binascii
import urllib.error
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urljoin, urlsplit

from label_tools.files.strict_reading import parse_xml_bytes
from label_tools.text.errors import InputError
from toolkit.prediction.detector import Found

SECONDS = 20.0  # for the allowed server to answer


@dataclass(frozen=True)
class Control:
    """The tags that a labelling configuration has for boxes. key: of the picture in a task's data; labels: of the
    boxes, empty where none are named."""

    from_name: str = "label"
    to_name: str = "image"
    key: str = "image"
    labels: frozenset[str] = frozenset()


def control_of(label_config: str | None) -> Control:
    """The first <RectangleLabels> of a configuration with the <Image> it belongs to. Raises InputError."""
    if not label_config:
        return Control()
    root = parse_xml_bytes(label_config.encode(), "label_config")
    pictures = {tag.get("name"): tag.get("value", "").removeprefix("$") for tag in root.iter("Image")}
    for tag in root.iter("RectangleLabels"):
        name, to_name = tag.get("name"), tag.get("toName")
        if name and to_name in pictures and to_name:
            labels = frozenset(filter(None, (label.get("value") for label in tag.iter("Label"))))
            return Control(name, to_name, pictures[to_name] or "image", labels)
    raise InputError("label_config: has no <RectangleLabels> on an <Image>, needs one for boxes")


def picture_of(task: Any, control: Control) -> str:
    """What a task calls its picture: an address, or a data: URI. Raises InputError."""
    data = task.get("data") if isinstance(task, dict) else None
    text = data.get(control.key) if isinstance(data, dict) else None
    if not isinstance(text, str) or not text:
        raise InputError(f'task: has no text at data["{control.key}"], needs the address of a picture')
    return text


def prediction(
    found: Found, names: Mapping[int, str], size: tuple[int, int], control: Control, version: str
) -> dict[str, Any]:
    """The prediction for one picture of `size` (width, height). Classes that the configuration lacks are left out."""
    width, height = size
    regions = []
    for one in found:
        name = names[one["category_id"]]
        if control.labels and name not in control.labels:
            continue
        x, y, w, h = one["bbox"]
        percent = {"x": x / width, "y": y / height, "width": w / width, "height": h / height}
        regions.append(
            {
                "from_name": control.from_name,
                "to_name": control.to_name,
                "type": "rectanglelabels",
                "original_width": width,
                "original_height": height,
                "image_rotation": 0,
                "score": one["score"],
                "value": {
                    **{key: round(100 * value, 5) for key, value in percent.items()},
                    "rotation": 0,
                    "rectanglelabels": [name],
                },
            }
        )
    scores = [region["score"] for region in regions]
    return {"model_version": version, "score": min(scores, default=0.0), "result": regions}


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
