"""fal's clients, unmodified: fal's routes, translated to jobs and back.

Nothing here knows Redis or Celery: a job is made, read and followed by the same functions as in the
native routes.

| | |
|---|---|
| `hosts.py` | fal's hosts are folders here: which request goes where |
| `ids.py` `options.py` `failures.py` `statuses.py` | pure: ids, headers, ends of jobs, statuses |
| `answers.py` | JSON, errors and `x-fal-request-id` |
| `urls.py`, pure, and `values.py` | files in inputs and outputs |
| `queue.py` | submit, status, result, cancel |
| `storage.py` | uploads |
"""

import flask
from werkzeug.exceptions import HTTPException, RequestEntityTooLarge

from rankcast.tasks.errors import RankcastError
from rankcast.web.fal import answers, proxy, queue, storage
from rankcast.web.fal.hosts import Dispatch

routes = flask.Blueprint("fal", __name__)
for module in (proxy, queue, storage):
    routes.register_blueprint(module.routes)
routes.after_request(answers.add_request_id)
routes.register_error_handler(RankcastError, answers.from_error)
routes.register_error_handler(HTTPException, answers.from_http)
routes.register_error_handler(RequestEntityTooLarge, answers.too_large)
routes.register_error_handler(Exception, answers.from_bug)

__all__ = ["Dispatch", "routes"]
