"""Ops that measure the quality of a text, an image or a document."""
