"""Bundles: runs or votes with all that another machine, without network, needs to predict with them."""
