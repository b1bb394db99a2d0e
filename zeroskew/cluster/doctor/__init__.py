"""What a cluster lacks for this release: `zeroskew doctor`.

Reading is apart from judging: `reading` fills `observations` with what one person may see, and each
check is a small function from them to findings.
"""
