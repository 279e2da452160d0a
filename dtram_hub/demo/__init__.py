"""The page of `dtram demo`: an image, each look that the model took at it, and what it believed meanwhile.

`layout` arranges the page with Gradio, which no other module here imports. `replies` has what the page
replies to its visitor: `opened` opens models, `sliders` turns a budget into a stop threshold, and
`story_page` shows a story.
"""
