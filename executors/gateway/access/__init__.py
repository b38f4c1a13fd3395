"""Access control, rate limits, the audit log and metrics; imports no other folder of the gateway."""
