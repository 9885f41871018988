"""Which commit a model hub's moving name (`main`, a tag) stands for, so that a key names what was really loaded."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path

_COMMIT = re.compile(r"[0-9a-f]{40}")
TIME_LIMIT_S = 5.0


def pinned(source: str) -> str:
    """`hf:OWNER/NAME@REVISION` with the revision's commit, asked of the hub, else read from the local cache.

    Unchanged where neither knows it: then the weights can't be had here either, and the export says so.
    """
    name, _, revision = source.removeprefix("hf:").partition("@")
    commit = revision if _COMMIT.fullmatch(revision) else _asked(name, revision) or _cached(name, revision)
    return f"hf:{name}@{commit or revision}"


@cache
def _asked(name: str, revision: str) -> str | None:
    try:
        import huggingface_hub
        from huggingface_hub.errors import HFValidationError, OfflineModeIsEnabled
    except ImportError:  # the core install has no exporter, and no use for the hub
        return None
    try:
        return huggingface_hub.HfApi().model_info(name, revision=revision, timeout=TIME_LIMIT_S).sha
    except (OSError, OfflineModeIsEnabled, HFValidationError):
        return None
    except Exception as error:
        # The hub's client passes on those of whichever HTTP library it uses, of no common base.
        if type(error).__module__.partition(".")[0] in ("httpx", "httpx2", "requests", "huggingface_hub"):
            return None
        raise


def _cached(name: str, revision: str) -> str | None:
    try:
        from huggingface_hub.constants import HF_HUB_CACHE

        folder = Path(HF_HUB_CACHE, "models--" + name.replace("/", "--"))
        commit = (folder / "refs" / revision).read_text().strip()
    except (ImportError, OSError):
        return None
    return commit if _COMMIT.fullmatch(commit) else None
