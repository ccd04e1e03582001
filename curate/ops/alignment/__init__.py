"""Ops that measure how well images and texts belong together."""
