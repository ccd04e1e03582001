"""Characters, words and sentences of a text, what it measures, and the personal data in it."""
