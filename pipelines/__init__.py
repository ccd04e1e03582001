"""The command line, the demo, the real data that recipes of ours curate, and converters to what others read."""
