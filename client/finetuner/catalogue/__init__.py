"""Generated data that ships with the package: a fashion catalogue to tune on, and shapes to start from."""

from finetuner.catalogue.fashion import fashion
from finetuner.catalogue.image import CatalogueImage
from finetuner.catalogue.shapes import shapes

__all__ = ["CatalogueImage", "fashion", "shapes"]
