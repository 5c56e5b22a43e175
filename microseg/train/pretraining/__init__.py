"""`microseg train pretrain`: an encoder learns from classified micrographs."""
