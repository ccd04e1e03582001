"""curate: multimodal training data, from raw input to shards, mixtures and a training step."""

__version__ = "0.1.0"
