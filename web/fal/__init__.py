"""fal's clients, unmodified: fal's routes, translated to jobs and back.

Nothing here knows Redis or Celery: a job is made, read and followed by the same functions as in the
native routes.

| | |
|---|---|
| `hosts.py` | fal's hosts are folders here: which request goes where |
| `ids.py` `options.py` `failures.py` `statuses.py` | pure: ids, headers, ends of jobs, statuses |
| `answers.py` | JSON, errors and `x-fal-request-id` |
| `urls.py`, pure, and `values.py` | files in inputs and outputs |
| `requests.py` | a request is a job: how it is made, what came of it |
| `run.py` `queue.py` | run and stream; submit, status, result, cancel |
| `storage.py` | uploads |
| `missing.py` | what fal has and Rankcast has not |
"""

from collections.abc import Callable

import flask
from werkzeug.exceptions import HTTPException, RequestEntityTooLarge

from rankcast.tasks.errors import RankcastError
from rankcast.web.fal import answers, missing, proxy, queue, run, storage
from rankcast.web.fal.hosts import Dispatch
from rankcast.web.falhosts import FOLDERS

Handler = Callable[[HTTPException], flask.Response]

routes = flask.Blueprint("fal", __name__)
for module in (proxy, run, queue, storage, missing):
    routes.register_blueprint(module.routes)
routes.after_request(answers.add_request_id)
routes.register_error_handler(RankcastError, answers.from_error)
routes.register_error_handler(HTTPException, answers.from_http)
routes.register_error_handler(RequestEntityTooLarge, answers.too_large)
routes.register_error_handler(Exception, answers.from_bug)


def refuses(otherwise: Handler) -> Handler:
    """How an app refuses what it has no route for: in fal's form below its folders, elsewhere `otherwise`."""

    def handler(error: HTTPException) -> flask.Response:
        if not flask.request.path.startswith(FOLDERS):
            return otherwise(error)
        return answers.add_request_id(answers.from_http(error))

    return handler


__all__ = ["Dispatch", "refuses", "routes"]
