"""Every command of `fathom`, thin: parse, call, show."""
