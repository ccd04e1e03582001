"""Ops that write what no source said: columns of their own, with the name of the model."""
