"""The stream: from a mixture and a position to batches, for any torch trainer."""
