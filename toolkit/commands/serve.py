"""`frcnn serve RUN`: a detector as a local HTTP service, for programs and for Label Studio."""

from __future__ import annotations

import argparse
import os
from pathlib import Path

from label_tools.text.errors import InputError, say
from toolkit.commands.flags import add_device, check_score


def add(subparsers: argparse._SubParsersAction) -> None:
    parser = subparsers.add_parser(
        "serve",
        help="a local HTTP service: JSON, and Label Studio's ML backend",
        description="POST the bytes of a picture to /detect, or give the address to Label Studio as a model. There is "
        "no password: at another address than 127.0.0.1 put it behind a server that asks for one. Label Studio's key "
        "is read from LABEL_STUDIO_API_KEY.",
    )
    parser.add_argument("checkpoint", type=Path, metavar="RUN", help="run folder, a checkpoint in it, or model.onnx")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen at (default: 127.0.0.1)")
    parser.add_argument("--port", type=int, default=9090, help="default: 9090; 0: any free one")
    parser.add_argument("--score", type=float, help="show detections from this score (default: each class's own)")
    parser.add_argument("--max-upload", type=float, default=20, metavar="MB", help="of a request (default: 20)")
    parser.add_argument(
        "--max-pixels", type=int, default=25_000_000, metavar="N", help="of a picture (default: 25 million)"
    )
    parser.add_argument("--label-studio", default="", metavar="URL", help="the one server that pictures are read from")
    add_device(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    from toolkit.deployment.http_service import Server, Service
    from toolkit.deployment.label_studio_protocol import Fetcher
    from toolkit.prediction.open_detector import open_detector

    check_score(args.score)
    if not 0 <= args.port <= 65535:
        raise InputError(f"--port: found {args.port}, needs 0 to 65535")
    for name in ("max_upload", "max_pixels"):
        if not 0 < getattr(args, name) < float("inf"):
            raise InputError(f"--{name.replace('_', '-')}: found {getattr(args, name)}, needs more than 0")
    limit = int(args.max_upload * 1_000_000)
    fetcher = Fetcher(args.label_studio, os.environ.get("LABEL_STUDIO_API_KEY", ""), limit)
    service = Service(open_detector(args.checkpoint, args.device), fetcher, args.score, args.max_pixels)
    try:
        server = Server((args.host, args.port), service, limit)
    except OSError as error:
        raise InputError(f"{args.host}, port {args.port}: cannot listen there: {error.strerror or error}") from None
    with server:
        say(f"{service.version} listens at http://{args.host}:{server.server_port}; Ctrl-C ends it")
        server.serve_forever()
    return 0
