"""Neural models; importing this package needs torch only once ``mae`` is imported."""
