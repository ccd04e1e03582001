"""Vision towers: networks of open_clip or timm, each with its own size and normalisation.

`tower` holds the settings of one and the module; `backbones` finds networks and their weights; `native` runs vision
transformers on pictures of any aspect ratio; `rasters` resizes and joins what comes.
"""
