"""curate: multimodal training data, from raw input to shards, mixtures and a training step.

Public, by the names in their `__all__`: `curate.stream` (batches of a mixture for any torch trainer), `curate.mix`
(mixtures of datasets by weight), `curate.shards` (datasets of tars with an index beside each) and `curate.ops` (what an
op of one's own needs). So are the command `curate` and the formats on disk. All else may change from one version to the
next.
"""

__version__ = "0.1.0"
