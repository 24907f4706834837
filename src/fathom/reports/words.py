"""Numbers as a person reads them."""


def big(value: float) -> str:
    """A large number in three digits: 22,412,288 as 22.4M."""
    for size, unit in ((1e12, "T"), (1e9, "B"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= size:
            return f"{value / size:.3g}{unit}"
    return f"{value:.3g}"


def duration(seconds: float) -> str:
    """A stretch of time: 45 s, 8.0 min, 2.5 h."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.1f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def clock(seconds: float) -> str:
    """A stretch of time on a clock: 0:45, 8:02, 2:30:00."""
    whole = max(round(seconds), 0)
    hours, rest = divmod(whole, 3600)
    return f"{hours}:{rest // 60:02}:{rest % 60:02}" if hours else f"{rest // 60}:{rest % 60:02}"


def cents(value: float) -> str:
    """A small price in US cents."""
    return "under 0.01 ¢" if value < 0.01 else f"{value:.2f} ¢"
