"""What the ranks of an attempt are told of files: where large results go, and how large that is."""

from dataclasses import dataclass

#: What one text holds of images, tensors, arrays and bytes, as base64; what is behind that is stored.
MAX_INLINE_EVENT_BYTES, MAX_INLINE_OUTPUT_BYTES = 256 * 1024, 1024 * 1024

#: What one `fetch_input` takes of another host, and of its time.
MAX_FETCH_BYTES, FETCH_TIMEOUT_S = 1024 * 1024 * 1024, 300.0


@dataclass(frozen=True, slots=True, kw_only=True)
class FileRules:
    """Sizes in bytes. The defaults are those of a worker that nobody serves files for."""

    #: The folder of the deployment's artifacts; None: no web tier reads what this worker stores.
    artifacts: str | None = None
    #: The folder of what clients uploaded; None: there is none in common with a web tier.
    uploads: str | None = None
    #: Where the attempt keeps what it fetches; not there before it is used, and gone with the attempt.
    scratch: str = ""
    #: Whom it may ask for files, as fetch.Host reads them, and how much of one it takes, for how long.
    fetch_hosts: tuple[str, ...] = ()
    max_fetch_bytes: int = MAX_FETCH_BYTES
    fetch_timeout_s: float = FETCH_TIMEOUT_S
    #: Id of the API key that submitted the job.
    owner: str = ""
    max_inline_event_bytes: int = MAX_INLINE_EVENT_BYTES
    max_inline_output_bytes: int = MAX_INLINE_OUTPUT_BYTES
