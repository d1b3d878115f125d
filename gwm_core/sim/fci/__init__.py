"""A simulated robot that speaks the protocol of libfranka, and refuses what an FR3 refuses.

It needs the extra ``fci-sim`` (franky-sim, which has the protocol's messages).
"""
