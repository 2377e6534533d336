"""Run folders on disk: recipe, checkpoints, whether a fold is finished, and the ledger of all that was run."""
