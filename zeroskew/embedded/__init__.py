"""The local stack: the servers a cluster would run, as child processes of a laptop."""
