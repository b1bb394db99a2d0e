"""Why a cluster does not do what it was asked for, in its own words."""
