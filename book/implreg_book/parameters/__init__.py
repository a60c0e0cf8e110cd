"""The parameters of the chapters: one schema each, for notebooks, commands, panels and pages."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
