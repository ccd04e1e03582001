"""`curate demo`: a small web on loopback, curated, mixed and trained from."""
