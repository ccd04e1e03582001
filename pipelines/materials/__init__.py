"""Prepare real data and weights from package registries, for recipes, tests and benchmarks."""
