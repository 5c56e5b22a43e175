"""What every stage shares: micrographs, domains, preparation, tiles, metrics, schemas, errors. No torch."""
