"""Benchmarks: ``python -m bench`` prints figures as ratios to a floor measured in the same run.

The floor is what the machine gives without us: bare uvicorn, lxml, the same SQL by a raw driver, stored fragments, no
rules, no audit. Client, servers and database share the machine, so only ratios within one run mean anything.
"""
