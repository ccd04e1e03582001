"""Characters, words and sentences of a text, its measures, and the personal data in it."""
