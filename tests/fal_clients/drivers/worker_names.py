"""The public names of a DistributedWorker, each with what it takes: [[parameter, default], …], or null.

worker_names.py ["fal.distributed" or "rankcast"]
"""

import importlib
import inspect
import json
import sys
from typing import Any


def parameters(value: Any) -> list[tuple[str, str]] | None:
    if not inspect.ismethod(value):
        return None
    return [(each.name, repr(each.default)) for each in inspect.signature(value).parameters.values()]


worker = importlib.import_module(json.loads(sys.argv[1])).DistributedWorker()
names = [name for name in dir(worker) if name == "__call__" or not name.startswith("_")]
print(json.dumps({name: parameters(getattr(worker, name)) for name in names}))
