"""Offer %mlops in every IPython of this environment; NBMLOPS_MAGIC=off does not."""

from nbmlops.first_use import offer as _offer

_offer(get_ipython())  # noqa: F821  # IPython runs this in the user's namespace
del _offer
