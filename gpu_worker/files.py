"""What the ranks of an attempt are told of files: where large results go, and how large that is."""

from dataclasses import dataclass

#: What one text holds of images, tensors, arrays and bytes, as base64; what is behind that is stored.
MAX_INLINE_EVENT_BYTES, MAX_INLINE_OUTPUT_BYTES = 256 * 1024, 1024 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class FileRules:
    """Sizes in bytes. The defaults are those of a worker that nobody serves files for."""

    #: The folder of the deployment's artifacts; None: no web tier reads what this worker stores.
    artifacts: str | None = None
    #: Id of the API key that submitted the job.
    owner: str = ""
    max_inline_event_bytes: int = MAX_INLINE_EVENT_BYTES
    max_inline_output_bytes: int = MAX_INLINE_OUTPUT_BYTES
