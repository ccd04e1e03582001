"""The command line `curate`."""
