"""How logs are stored: the journal while one is written, one Parquet file when it is closed."""
