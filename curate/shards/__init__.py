"""Shards: webdataset tars with an Arrow index beside each; opened at random, verified.

`info` says what a dataset is made of, `scan` reads strangers' tars without trusting them, `index` lays down and
reads the table of where each part lies, `write` makes a shard, `remote` and `cache` reach tars that lie elsewhere,
`verification` compares tars with what their indexes say.
"""

from curate.shards.cache import ShardCache
from curate.shards.index import ShardReader, index_tar
from curate.shards.info import DatasetInfo, ShardError, ShardInfo, load_dataset, save_dataset
from curate.shards.remote import (
    UnreachableError,
    attach,
    attach_cached,
    fetch_dataset_json,
    is_url,
    open_shard,
    prefetch_shard,
)
from curate.shards.scan import Part, TarFault, TarLimits, TarSample, scan_tar
from curate.shards.verification import verify, verify_shard
from curate.shards.write import ShardWriter

__all__ = [
    "DatasetInfo",
    "Part",
    "ShardCache",
    "ShardError",
    "ShardInfo",
    "ShardReader",
    "ShardWriter",
    "TarFault",
    "TarLimits",
    "TarSample",
    "UnreachableError",
    "attach",
    "attach_cached",
    "fetch_dataset_json",
    "index_tar",
    "is_url",
    "load_dataset",
    "open_shard",
    "prefetch_shard",
    "save_dataset",
    "scan_tar",
    "verify",
    "verify_shard",
]
