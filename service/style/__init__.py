"""What captions say, taken apart: attributes and opposites, sentences and moments. Texts and arrays only."""
