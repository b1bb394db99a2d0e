"""The KFP component `model_page`: everything about a model on one page."""

from components.model_page.component import model_page

__all__ = ["model_page"]
