"""The producer: trains a model, packages it, signs it and publishes it to an OCI registry."""
