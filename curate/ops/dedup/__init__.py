"""Ops that find what occurs twice: images, texts, pages, and what is a benchmark's."""
