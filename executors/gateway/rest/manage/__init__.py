"""What the page needs to manage a Flow: live lists, the form of a new run, tokens and the state of the machine."""
