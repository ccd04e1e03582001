"""One file a kind of sample (what is ingested, what is written), the command line, and the demo."""
