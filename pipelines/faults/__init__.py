"""Labelled pools: real pictures and texts with planted faults, and how well ops find them.

`plant` makes a fault, `pools` makes pools of clean and faulty items, `rows` says which op is for which fault by which
rule, `table` calls the ops and scores them.
"""
