"""A deploy: SIGTERM to a web process with 5,000 viewers, until it is gone. All must be sent away in order."""

import resource
import socket
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path
from urllib.parse import urlsplit

from benchmarks.bench import Bench
from benchmarks.crowd_web import CrowdWeb
from benchmarks.measure import Contender, Figure, Row, Sample

VIEWERS = 5000
#: Each viewer, and what this process has open beside them.
DESCRIPTORS = VIEWERS + 500
RECV_BYTES = 1 << 16
#: How a body in chunked coding ends, when it ends in order.
END = b"0\r\n\r\n"


def ours(bench: Bench) -> Sample:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, min(DESCRIPTORS, hard)), hard))
    with ExitStack() as running:
        folder = running.enter_context(tempfile.TemporaryDirectory())
        web = running.enter_context(CrowdWeb(Path(folder)))
        url = urlsplit(web.target().url.replace("{ch}", "0"))
        viewers = [_viewer(running, url.hostname or "", url.port or 0, url.path) for _ in range(VIEWERS)]
        for viewer in viewers:
            viewer.recv(RECV_BYTES)
        began = time.monotonic()
        web.process.terminate()
        web.process.wait(timeout=60)
        took_s = time.monotonic() - began
        cut = sum(not _rest(viewer).endswith(END) for viewer in viewers)
    return Sample({"gone": took_s}, f"{cut} of {VIEWERS} were cut off" if cut else None)


def _viewer(running: ExitStack, host: str, port: int, path: str) -> socket.socket:
    viewer = running.enter_context(socket.create_connection((host, port), timeout=30))
    viewer.sendall(f"GET {path} HTTP/1.1\r\nHost: {host}:{port}\r\n\r\n".encode())
    return viewer


def _rest(viewer: socket.socket) -> bytes:
    rest = b""
    while part := viewer.recv(RECV_BYTES):
        rest += part
    return rest


ROW = Row(
    key="leave",
    title=f"SIGTERM of a web process with {VIEWERS:,} viewers, until it is gone",
    figures=[Figure("gone", "s", must=2, aim=1)],
    contenders=[Contender("rankcast, one web process", ours, is_ours=True)],
    rounds=3,
    warm_ups=0,
)
