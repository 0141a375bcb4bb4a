"""Stress: sounds made on the spot that a chain must not make worse than DeepFilterNet3 does.

``probes`` names and makes them, ``figures`` measures one, ``harm`` compares each row with
DeepFilterNet3's, ``tables`` writes the rows down.
"""
