"""Consumption ledger, run record, trace, who-used, gate, registry, attestation."""
