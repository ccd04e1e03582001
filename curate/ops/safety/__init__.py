"""Ops that find what should not be kept: nudity, faces, personal data, opt-outs."""
