"""What a driver in Python is asked, and how it tells what it saw: one line of JSON an event."""

import json
import os
import sys
from typing import Any

#: The address of the server, the job, and where to begin: None is the start.
URL, JOB, CURSOR = (*sys.argv[1:], None)[:3]
#: For clients that know nothing of keys.
KEY = os.environ.get("RANKCAST_KEY")
HEADERS = {} if KEY is None else {"Authorization": f"Key {KEY}"}


def tell(id: str, kind: str, data: Any) -> None:
    print(json.dumps({"id": id, "kind": kind, "data": data}), flush=True)


def tell_end(how: str, **more: Any) -> None:
    print(json.dumps({"ended": how, **more}), flush=True)
