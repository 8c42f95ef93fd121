"""The floor of an event on its way through a Python process: gevent and hiredis, and nothing else.

    python -m benchmarks.peers.bare_hub REDIS_PORT PORT

It hears the live channels of ours, and writes what comes to whoever asked for that job: no log, no replay, no
cursor, nothing kept, nobody refused. What ours costs more is what a viewer can rely on.
"""

import sys
from collections import defaultdict
from contextlib import suppress
from dataclasses import replace
from urllib.parse import urlsplit

from gevent.server import StreamServer
from gevent.socket import create_connection, socket
from hiredis import Reader, pack_command

from benchmarks.actor import ROOT
from benchmarks.crowd_web import CrowdWeb
from benchmarks.load import Target
from benchmarks.system import free_port, serving
from rankcast.tasks.keys import JobKeys

HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n"


class BareHub(CrowdWeb):
    """One process, beside the Redis and the feeder of ours."""

    def target(self, channels: int = 1) -> Target:
        theirs = super().target(channels)
        url = theirs.url.replace(f":{self._system.port}/", f":{self._port}/")
        return replace(theirs, url=url, pids={"web": self._bare.pid})

    def _start(self) -> None:
        super()._start()
        self._port = free_port()
        redis_port = str(urlsplit(self._system.redis_url).port)
        command = [sys.executable, "-m", "benchmarks.peers.bare_hub", redis_port, str(self._port)]
        log = self._folder / "bare_hub.log"
        server = serving(command, f"127.0.0.1:{self._port}", log, PYTHONPATH=str(ROOT))
        self._bare = self._running.enter_context(server)


def _serve(redis_port: int, port: int) -> None:
    viewers: dict[bytes, list[socket]] = defaultdict(list)
    line = create_connection(("127.0.0.1", redis_port))

    def handle(client: socket, _: object) -> None:
        # Who only looks whether somebody listens asks for nothing.
        if not (asked := client.recv(4096).split(b"/")[2:3]):
            return
        viewer, channel = socket(fileno=client.detach()), JobKeys(asked[0].decode()).live.encode()
        viewers[channel].append(viewer)
        line.sendall(pack_command(("SUBSCRIBE", channel)))
        viewer.sendall(HEAD)

    StreamServer(("127.0.0.1", port), handle, backlog=4096).start()
    replies, buffer = Reader(), bytearray(1 << 16)
    while size := line.recv_into(buffer):
        replies.feed(buffer, 0, size)
        while (reply := replies.gets()) is not False:
            if reply[0] == b"message":
                _, _, frames = reply[2].partition(b"\n")
                for viewer in viewers[reply[1]]:
                    with suppress(OSError):
                        viewer.send(frames)


if __name__ == "__main__":
    _serve(int(sys.argv[1]), int(sys.argv[2]))
