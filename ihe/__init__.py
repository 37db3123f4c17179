"""What the IHE IT Infrastructure Technical Framework says, with no I/O and no clock.

Edition: ITI TF volumes 2 and 3, revisions 17 to 20 as tabled in docs/; section numbers in this package refer to them.
"""

__all__: list[str] = []
