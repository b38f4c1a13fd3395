"""Downloads of the images that tables name by address."""
