"""A Space: the page of `dtram demo`, with the models that ship."""

from dtram_hub.demo.layout import launch

launch()
