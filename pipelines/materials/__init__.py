"""Real data and weights that package registries serve, prepared for recipes, tests and benchmarks."""
