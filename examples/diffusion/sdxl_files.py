"""Where real weights lie on a worker's host.

That is the worker's own choice, made by whoever starts it, and no part of an input: who may submit jobs
may not choose what a worker reads.
"""

import os
from pathlib import Path


def folder_named_by(variable: str) -> Path | None:
    """NotADirectoryError, before anything is loaded, where it names none."""
    named = os.environ.get(variable)
    if named and not Path(named).is_dir():
        raise NotADirectoryError(f"{variable} is {named!r}, which is no folder on this host")
    return Path(named) if named else None


#: As `StableDiffusionXLPipeline.save_pretrained` writes it. None: tiny random weights.
WEIGHTS = folder_named_by("SDXL_DIR")
#: An AutoencoderTiny, which decodes previews faster. None: the pipeline's own VAE does it.
PREVIEW_WEIGHTS = folder_named_by("SDXL_PREVIEW_DIR")
