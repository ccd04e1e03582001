"""Connectors: from an image tower's patch vectors to the language model's width, one file each."""
