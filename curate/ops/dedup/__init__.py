"""Ops that find duplicates: images, texts, pages, and text of benchmarks."""
