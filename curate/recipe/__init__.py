"""The recipe: one YAML file that says what to ingest, annotate, decide and publish, checked before it runs."""
