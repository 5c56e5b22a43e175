"""Pictures that microseg draws: masks as indexed PNG, and the phases over a micrograph."""
