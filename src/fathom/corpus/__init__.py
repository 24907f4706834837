"""Text in, token shards out: sources, cleaning, duplicates, tokenizer, packing."""
