"""A trained checkpoint on new pictures: detections, drawn boxes, drafts of labels."""
