"""The walkthrough: one picture through the whole detector, in fifteen figures, a page and a file of numbers.

make: the command. picture: the image and its boxes. worked_example: its counts. train_on_picture: a tiny detector
learns the picture. style: colours and layout. figures_*: the figures. page, story.txt, page.css: index.html.
example.jpg and example.json: the lesson's own picture and its labels.
"""
