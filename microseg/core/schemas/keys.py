"""Names of an engine's metadata entries. Apart from their schemas, which take a tenth of a second to import."""

METADATA_KEY = "microseg.manifest"
MANIFEST_SHA256_KEY = "microseg.manifest_sha256"
REFERENCE_KEY = "microseg.reference"
