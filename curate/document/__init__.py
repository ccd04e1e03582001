"""Interleaved documents: texts and images in the order of reading, and the formats of other projects."""
