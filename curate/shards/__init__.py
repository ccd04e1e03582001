"""Shards: webdataset tars with an Arrow index beside each, written whole, opened at random, verified.

`info` says what a dataset is made of, `scan` reads strangers' tars without trusting them, `index` lays down and
reads the table of where each part lies, `write` makes a shard.
"""

from curate.shards.index import ShardReader, index_tar, verify
from curate.shards.info import DatasetInfo, ShardError, ShardInfo, load_dataset, save_dataset
from curate.shards.scan import Part, TarFault, TarLimits, TarSample, scan_tar
from curate.shards.write import ShardWriter

__all__ = [
    "DatasetInfo",
    "Part",
    "ShardError",
    "ShardInfo",
    "ShardReader",
    "ShardWriter",
    "TarFault",
    "TarLimits",
    "TarSample",
    "index_tar",
    "load_dataset",
    "save_dataset",
    "scan_tar",
    "verify",
]
