"""Operations on whole data sets: split, merge, count, draw; extract frames from a film; start labelme."""
