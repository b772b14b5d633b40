"""The command line: reads arguments, calls the session, tells a person what happened. Start at ``main.main``."""
