"""KFP components: one folder each, typed artifacts around one call of the library."""
