"""Interleaved documents: texts and images in their order, and the formats of other projects."""
