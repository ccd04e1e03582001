"""The tiny CLIP that ships with the package, made of drawings: `python -m pipelines.materials.tiny_clip`."""
