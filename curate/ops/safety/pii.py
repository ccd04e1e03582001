"""Count personal data and secrets in texts (`curate.text.personal_data`); `masks` masks them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import pyarrow as pa

from curate.ops.spec import Columns, op
from curate.text.personal_data import KINDS, find_personal_data


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
