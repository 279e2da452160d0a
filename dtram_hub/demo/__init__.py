"""The page of `dtram demo`: an image, each look that the model took at it, and what it believed meanwhile.

`layout` arranges the page with Gradio, which no other module here imports. `opened` opens models, `sliders`
turns a budget into a stop threshold, `story_page` draws a story of `inference.story`.
"""
