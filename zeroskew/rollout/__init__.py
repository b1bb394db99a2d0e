"""How a registered version reaches its users: manifests, and later shadow, canary, promotion."""
