"""Tokenizers: texts to token ids and their number, for ops, mixtures and the stream alike."""
