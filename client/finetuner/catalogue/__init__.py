"""Generated captioned images, a fashion catalogue and coloured shapes; imports no other folder of the package."""

from .fashion import fashion
from .image import CatalogueImage
from .shapes import shapes

__all__ = ["CatalogueImage", "fashion", "shapes"]
