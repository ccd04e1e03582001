"""Models as they are trained: the dual encoder that a configuration describes."""
