"""Whether the hub of Hugging Face can be reached: asked once; its own libraries try again for most of a minute."""

import urllib.error
import urllib.request
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

TIMEOUT_SECONDS = 10.0


@contextmanager
def asking_hub() -> Iterator[str]:
    """Why the hub cannot be asked, "" where it answers; if it cannot, its libraries look in this block for what they
    have kept and for nothing else."""
    from huggingface_hub import constants

    before = constants.HF_HUB_OFFLINE
    unreachable = "HF_HUB_OFFLINE is set" if before else why_unreachable(constants.ENDPOINT)
    constants.HF_HUB_OFFLINE = bool(unreachable)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", ".*local_dir_use_symlinks")  # which diffusers hands to the hub's library
            yield unreachable
    finally:
        constants.HF_HUB_OFFLINE = before


def why_unreachable(url: str) -> str:
    """Why a server cannot be asked for anything; "" where it answers, whatever it says."""
    try:
        with urllib.request.urlopen(urllib.request.Request(url, method="HEAD"), timeout=TIMEOUT_SECONDS):
            return ""
    except urllib.error.HTTPError:
        return ""
    except OSError as error:  # URLError, time-outs and broken connections
        return f"{url} cannot be reached: {getattr(error, 'reason', error)}"
