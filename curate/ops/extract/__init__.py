"""Ops that make content: documents from HTML, pages from PDFs, words from scans, images from links."""
