"""Models as they are trained: the dual encoder and the towers that settings describe."""
