"""Images of any size: views are cut out of stored pixels, and no other pixel is read."""
