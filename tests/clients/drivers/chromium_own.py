"""Our JavaScript client in Chromium, as the server serves it."""

from in_page import watch

watch("own.js", "/static/rankcast.js")
