"""Name the extra that brings a module, in one sentence, where it is missing."""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping

EXTRAS: Mapping[str, str] = {
    "aiodns": "download",
    "aiohttp": "download",
    "idna": "download",
    "img2dataset": "download",
    "pycurl": "download",
    "ahocorasick_rs": "curate",
    "datasets": "curate",
    "duckdb": "curate",
    "fasttext": "curate",
    "jinja2": "curate",
    "onnxruntime": "curate",
    "ray": "curate",
    "scipy": "curate",
    "zxingcpp": "curate",
    "fastwarc": "docs",
    "pypdfium2": "docs",
    "rapidocr": "docs",
    "selectolax": "docs",
    "open_clip": "train",
    "tensorboard": "train",
    "timm": "train",
    "sacrebleu": "eval",
    "peft": "lm",
    "tokenizers": "lm",
    "transformers": "lm",
    "genai_prices": "llm",
    "openai": "llm",
    "rapidfuzz": "llm",
    "xllamacpp": "local-llm",
    "resvg_py": "drawings",
}
"""The extra that brings each module which the core does not; of several, the smallest."""


class MissingExtraError(ImportError):
    """A part of the package that is not installed; the message says which, and the command."""


def require(what: str, *modules: str) -> None:
    """Check that the modules which `what` needs can be imported, importing none. Raises MissingExtraError."""
    missing = [name for name in modules if importlib.util.find_spec(name) is None]
    if missing:
        extras = ",".join(sorted({EXTRAS[name] for name in missing}))
        raise MissingExtraError(f'{what} needs {" and ".join(missing)}: pip install "curate-mm[{extras}]"')
