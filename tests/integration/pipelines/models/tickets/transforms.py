"""Request-time features of the tickets."""


def length(inputs):
    """Logarithm of the number of words."""
    import math

    return {"log_words": [None if n is None else math.log1p(n) for n in inputs["words"]]}
