"""Evaluation: what a trained model answers, what it would answer without seeing, and how sure the figures are."""
