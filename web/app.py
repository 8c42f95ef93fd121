"""The WSGI app of the web tier.

    gunicorn -c python:rankcast.web.gunicorn_conf "rankcast.web.app:create_app()"

It sees Redis and nothing else: neither users' code nor torch is ever imported here.
"""

import flask
from werkzeug.exceptions import HTTPException, RequestEntityTooLarge

from rankcast.tasks.errors import RankcastError
from rankcast.web import artifacts, auth, catalog, direct, fal, files, health, jobs, origins, problems, static
from rankcast.web.arrival import Arrival
from rankcast.web.services import EXTENSION, make_services
from rankcast.web.settings import WebSettings


def create_app(settings: WebSettings | None = None) -> flask.Flask:
    """Build the app; connects to nothing until its services start. ValueError for a route that does
    not say who may use it.

    gunicorn_conf.py starts them in each process after the fork; any other server gets them at the
    first request.
    """
    settings = settings or WebSettings.from_env()
    app = flask.Flask("rankcast", static_folder=None)
    app.config["MAX_CONTENT_LENGTH"] = settings.max_body_bytes + 1  # body.py says why
    app.url_map.strict_slashes = False
    app.extensions[EXTENSION] = services = make_services(settings)
    for hook in (services.start, origins.answer_preflight, origins.refuse_foreign, auth.admit):
        app.before_request(hook)
    app.after_request(origins.add_headers)
    for module in (jobs, artifacts, files, direct, catalog, health, static, fal):
        app.register_blueprint(module.routes)
    auth.check_routes(app)
    app.wsgi_app = Arrival(fal.Dispatch(app.wsgi_app))  # type: ignore[method-assign]
    app.register_error_handler(RankcastError, problems.from_error)
    app.register_error_handler(HTTPException, fal.refuses(otherwise=problems.from_http))
    app.register_error_handler(RequestEntityTooLarge, problems.too_large)
    app.register_error_handler(Exception, problems.from_bug)
    return app
