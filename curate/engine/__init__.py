"""The engine: a recipe planned, run by shards, decided, published, tried again, explained."""
