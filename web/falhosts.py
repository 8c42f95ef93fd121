"""fal's hosts, and the folder of this server where each one's service is.  Pure."""

SERVICES = {
    "fal.run": "/run",
    "queue.fal.run": "/queue",
    "rest.fal.ai": "/rest",
    "rest.alpha.fal.ai": "/rest",
    "v3.fal.media": "/cdn",
}
FOLDERS = tuple(f"{folder}/" for folder in set(SERVICES.values()))
