"""Parts of the monitor's machine: what one turn works on, and how runs are asked for and followed.

Pure functions from turn to turn; whoever drives them is told by `monitor_machine`.
"""
