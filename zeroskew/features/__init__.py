"""Features: point-in-time join, online store, materialisation, one definition for both."""
