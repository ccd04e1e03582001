"""What the adapter of docs/training-evaluate.md says to lmms-eval's own requests; run in an environment that has both.

python lmms_reader.py MODEL PICTURE QUESTION
"""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import Any

PAGE = Path(__file__).resolve().parents[2] / "docs" / "training-evaluate.md"


def main(model: str, picture: str, question: str) -> None:
    from lmms_eval.api.instance import Instance  # type: ignore[import-not-found]
    from PIL import Image

    (code,) = re.findall(r"^```python\n(.*?)^```$", PAGE.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    space: dict[str, Any] = {"__name__": "curate_lmms"}
    exec(code, space)
    asked = space["CurateModel"].create_from_arg_string(f"pretrained={model},device=cpu")
    asked.task_dict["squares"] = {"test": [{"image": Image.open(picture)}, {"image": None}]}
    settings: dict[str, Any] = {"max_new_tokens": 12, "until": ["\n\n"], "do_sample": False, "temperature": 0}

    def request(context: str, doc_id: int) -> Instance:
        def visuals(doc: dict[str, Any]) -> list[Any]:
            return [doc["image"]] if doc["image"] else []

        args = (context, settings, visuals, doc_id, "squares", "test")
        metadata = {"task": "squares", "doc_id": doc_id, "repeats": 1}
        return Instance("generate_until", args, 0, metadata)

    print(json.dumps(asked.generate_until([request(f"<image>\n{question}", 0), request(question, 1)])))


if __name__ == "__main__":
    main(*sys.argv[1:])
