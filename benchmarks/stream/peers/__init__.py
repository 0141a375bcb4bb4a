"""Other loaders, each set up as its users would at their best; run by an interpreter of their own.

Samples are int16 from the store to the batch, or float32 where that is asked for: what soundfile and
Lhotse give who asks for nothing.
"""
