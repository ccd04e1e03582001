"""The recipe: one YAML file that says what is wanted, checked before it runs."""
