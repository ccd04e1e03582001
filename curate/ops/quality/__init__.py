"""Ops that measure how good a text, an image or a document is."""
