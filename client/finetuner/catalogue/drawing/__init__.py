"""Drawing of garments, shapes, backgrounds and textures; imports only the data modules at the top of catalogue."""
