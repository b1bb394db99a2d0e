"""What a rollout may expect of a gateway: which ones can copy requests, and whether they do."""
