"""What is done to a whole set of labels: split, merged, counted, drawn, made from a film; labelme started."""
