"""Recipes: choices only, as YAML. Each file's header gives its command, its cost and its expected result."""
