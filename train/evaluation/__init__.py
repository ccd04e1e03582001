"""Evaluation: what a trained model answers, and what it says without its picture."""
