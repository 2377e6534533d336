"""What each ``phalanx COMMAND`` does, beside the text of its ``--help``: the only place that composes configurations.

Heavy imports wait until a command needs them, so that any Python prints the help.
"""
