"""Connectors: from towers' vectors of pictures to so many of the language model's width, one file each.

A file holds the settings of one connector (its `build` makes the module) and the module. The module has `places`, the
vectors that a picture becomes, and `views`, of how many views they are, one after another (1: of all together); it
maps what all towers gave, in their order, to vectors_NPE. `table` names them.
"""
