"""Objectives: what a batch costs, and how its loss is made of parts."""
