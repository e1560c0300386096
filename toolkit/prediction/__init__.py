"""A trained detector on new pictures: detections, boxes drawn, files of what was found."""
