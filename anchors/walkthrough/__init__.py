"""The walkthrough: one picture through the whole detector, in fourteen figures, a page and a file of numbers.

make: the command. picture: the image and its boxes. lecture: everything the lecture counts. learn: a tiny detector
that learns the picture. style: colours and slides. figures_anchors, figures_training, figures_proposals,
figures_head: the figures. page: index.html. lecture.jpg and lecture.json: the picture with the lecture's two boxes.
"""
