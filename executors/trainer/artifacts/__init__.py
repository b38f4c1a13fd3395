"""Artifacts in the trainer room, uploaded and promoted; imports the run store, and finetuner below its api floor."""
