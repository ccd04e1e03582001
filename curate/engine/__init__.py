"""The engine: a recipe planned, run shard by shard, decided, published, tried again and explained."""
