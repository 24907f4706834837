"""The named configurations, beside the network they describe; they live in `fathom.config.presets`."""

from fathom.config.presets import PUBLISHED, laptop, laptop_rules, preset

__all__ = ["PUBLISHED", "laptop", "laptop_rules", "preset"]
