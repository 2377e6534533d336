"""A look at a run's failures: which images they are, which annotations are in doubt, how other runs do on them."""
