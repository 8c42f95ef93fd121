"""The ground for fal's clients: where their requests go, and how they are told what went wrong.

There are no routes for jobs here yet. Those to come only translate: nothing here knows Redis or Celery.

| | |
|---|---|
| `hosts.py` | fal's hosts are folders here: which request goes where |
| `ids.py` `failures.py` | pure: ids of apps, ends of jobs |
| `answers.py` | JSON, errors and `x-fal-request-id` |
"""

import flask
from werkzeug.exceptions import HTTPException, RequestEntityTooLarge

from rankcast.tasks.errors import RankcastError
from rankcast.web.fal import answers, proxy
from rankcast.web.fal.hosts import Dispatch

routes = flask.Blueprint("fal", __name__)
for module in (proxy,):
    routes.register_blueprint(module.routes)
routes.after_request(answers.add_request_id)
routes.register_error_handler(RankcastError, answers.from_error)
routes.register_error_handler(HTTPException, answers.from_http)
routes.register_error_handler(RequestEntityTooLarge, answers.too_large)
routes.register_error_handler(Exception, answers.from_bug)

__all__ = ["Dispatch", "routes"]
