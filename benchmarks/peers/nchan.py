"""nginx with nchan: the SSE server to beat, in C. One worker, channels in memory, no jobs, no log.

Debian has it: apt install nginx-core libnginx-mod-nchan.
"""

import itertools
import shutil
from pathlib import Path

from benchmarks.load import Target
from benchmarks.measure import NotInstalled
from benchmarks.server import Server
from benchmarks.system import free_port, serving

MODULE = Path("/usr/lib/nginx/modules/ngx_nchan_module.so")
CONFIG = """
load_module {module};
worker_processes 1;
daemon off;
master_process on;
pid {folder}/pid;
error_log {folder}/error.log;
worker_rlimit_nofile 65536;
events {{ worker_connections 20000; }}
http {{
  access_log off;
  keepalive_requests 100000000;
  client_body_temp_path {folder}/body;
  proxy_temp_path {folder}/proxy;
  fastcgi_temp_path {folder}/fastcgi;
  uwsgi_temp_path {folder}/uwsgi;
  scgi_temp_path {folder}/scgi;
  nchan_max_reserved_memory 512M;
  server {{
    listen {here} backlog=4096;
    location ~ ^/pub/(.+)$ {{
      nchan_publisher; nchan_channel_id $1; nchan_message_buffer_length 1000; nchan_message_timeout 5m;
    }}
    location ~ ^/sub/(.+)$ {{
      nchan_subscriber eventsource; nchan_channel_id $1; nchan_subscriber_first_message newest;
      nchan_subscriber_timeout 0;
    }}
  }}
}}
"""


class Nchan(Server):
    """Entering raises NotInstalled where it is not."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self._here = f"127.0.0.1:{free_port()}"
        self._runs = itertools.count()

    def target(self) -> Target:
        """Channels that nobody has seen yet."""
        run, here = next(self._runs), f"http://{self._here}"
        return Target(
            url=f"{here}/sub/run{run}-{{ch}}",
            publish=f"{here}/pub/run{run}-{{ch}}",
            pids={"web": self._process.pid},
        )

    def _start(self) -> None:
        nginx = shutil.which("nginx", path="/usr/sbin:/usr/bin:/sbin:/bin")
        if nginx is None or not MODULE.exists():
            raise NotInstalled("not installed: apt install nginx-core libnginx-mod-nchan")
        config = self._folder / "nginx.conf"
        config.write_text(CONFIG.format(module=MODULE, folder=self._folder, here=self._here))
        command = [nginx, "-p", str(self._folder), "-c", str(config)]
        server = serving(command, self._here, self._folder / "nginx.log")
        self._process = self._running.enter_context(server)
