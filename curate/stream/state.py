"""The state of a run: a position of a mixture's stream, and the manifest it belongs to, by its file's SHA-256."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from curate import mix
from curate.stream.reading import StreamError


def state_at(position: int, digest: str) -> dict[str, Any]:
    """The state at a position, plain data for any checkpoint."""
    return {"position": position, "manifest": digest}


def can_resume(state: Mapping[str, Any], mixture: mix.Mixture, digest: str) -> bool:
    """Whether a state can be resumed from: it is of this manifest, or of the one that this one continues."""
    known = str(state["manifest"])
    return known == digest or mixture.knows(known, int(state["position"]))


def position_of(state: Mapping[str, Any], mixture: mix.Mixture, digest: str) -> int:
    """The position to go on from. Raises StreamError for the state of another mixture."""
    if not can_resume(state, mixture, digest):
        raise StreamError(
            "the mixture manifest has changed since this state was saved; start a new run for a new mixture, or"
            " write one that goes on from here (curate mix write --continue)"
        )
    return int(state["position"])
