"""Command line, demo, real data for our recipes, and converters to other projects' formats."""
