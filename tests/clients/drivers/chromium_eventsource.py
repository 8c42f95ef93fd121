"""Chromium's own EventSource."""

from in_page import watch

watch("eventsource.js")
