"""The length of a list where no setting says another.

A module of its own, of which code has digests: another length makes anew what was decided by it, as settings do.
"""

K = 10  # of what decides too: the best epoch, popular-lately's window, the refit
