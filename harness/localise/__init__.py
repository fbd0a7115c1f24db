"""Where an error begins: the first node that introduces it, and the optimisation that does.

Loaded only after a parity failure, or by the commands `localise` and `replay`.
"""
