"""Count and mask personal data and secrets in texts (`curate.text.personal_data`)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import pyarrow as pa

from curate.ops.spec import Columns, op
from curate.text.personal_data import KINDS, find_personal_data, replace_spans


@op(reads="text", writes={f"pii_{kind}": pa.int32() for kind in KINDS} | {"pii": pa.int32()}, version=3)
def pii(texts: Sequence[str]) -> Columns:
    """Count personal data in each text: e-mail and public IP addresses, phone and card numbers, IBANs, US social
    security numbers, keys; and all.

    Keys: private keys, and tokens of services in the form that the service gives them. E-mail: spelled out too (jane at
    example dot com). Phone numbers: with the country's code, in the groups of national plans, or behind a word that
    announces one. FineWeb's own masking (datatrove's PIIFormatter) knows e-mail and IPv4 addresses.
    """
    counts = [Counter(finding.kind for finding in find_personal_data(text)) for text in texts]
    return {f"pii_{kind}": [count[kind] for count in counts] for kind in KINDS} | {
        "pii": [count.total() for count in counts]
    }


@op(reads="text", writes={"text": pa.string()}, version=3)
def mask_pii(texts: Sequence[str], *, kinds: list[str] = list(KINDS)) -> Columns:  # noqa: B006 - never changed
    """The text that later steps read, each finding of `kinds` as its name in angle brackets: <EMAIL>, <IP>, <PHONE>."""
    unknown = [kind for kind in kinds if kind not in KINDS]
    if unknown:
        raise ValueError(f"mask_pii: unknown kind {unknown[0]!r} (allowed: {', '.join(KINDS)})")
    wanted = [[finding for finding in find_personal_data(text) if finding.kind in kinds] for text in texts]
    masked = (
        replace_spans(text, each, lambda f: f"<{f.kind.upper()}>") for text, each in zip(texts, wanted, strict=True)
    )
    return {"text": list(masked)}
