"""Models, whole: the dual encoder and the language model."""
