"""All clients at one job at the same time, for what would take too long with one after the other."""

from collections.abc import Callable

from clients.programs import CLIENTS, Watching, missing


class Company:
    """A driver of each client that can run here. What goes wrong with one is told where it is asked for."""

    def __init__(self, start: Callable[[str], Watching]) -> None:
        self._watching = {client: start(client) for client in CLIENTS if not missing(client)}
        self._errors: dict[str, Exception | AssertionError] = {}

    def each(self, step: Callable[[Watching], object]) -> None:
        """Take the step with every client that took all those before."""
        for client, watching in self._watching.items():
            if client not in self._errors:
                try:
                    step(watching)
                except (AssertionError, OSError) as error:
                    self._errors[client] = error

    def __getitem__(self, client: str) -> Watching:
        if client in self._errors:
            raise self._errors[client]
        return self._watching[client]

    def close(self) -> None:
        for watching in self._watching.values():
            watching.close()
